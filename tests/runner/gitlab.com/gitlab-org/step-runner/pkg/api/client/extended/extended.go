package extended

import (
	"context"
	"errors"
	"io"

	"gitlab.com/gitlab-org/step-runner/pkg/api/client"
)

type FollowOutput struct{ Logs io.Writer }

type Client struct{}

func New(any) (*Client, error) { return nil, errors.New("steps are left out") }

func (*Client) CloseConn() error                     { return nil }
func (*Client) Cancel(context.Context, string) error { return nil }
func (*Client) RunAndFollow(context.Context, *client.RunRequest, *FollowOutput) (client.Status, error) {
	return client.Status{}, nil
}
