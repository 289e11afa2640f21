package runner

import (
	"io"
	"time"

	"google.golang.org/protobuf/types/known/structpb"
)

type BuiltinContext interface {
	GetJobVars() map[string]*structpb.Value
	GetEnvs() map[string]string
	Pipe() (stdout, stderr io.Writer)
	WorkDir() string
	GracefulExitDelay() time.Duration
}
