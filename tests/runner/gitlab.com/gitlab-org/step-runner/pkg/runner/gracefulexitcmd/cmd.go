package gracefulexitcmd

import (
	"context"
	"os/exec"
	"time"
)

func New(ctx context.Context, _ time.Duration, name string, words ...string) *exec.Cmd {
	return exec.CommandContext(ctx, name, words...)
}
