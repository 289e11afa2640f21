// Package api stands for a runner that another program starts and stops: that of the tests runs alone.
package api

import (
	"context"
	"errors"
)

type Status string

const (
	StatusUnknown    Status = "unknown"
	StatusRunning    Status = "running"
	StatusInShutdown Status = "in shutdown"
	StatusStopped    Status = "stopped"
)

func (s Status) String() string { return string(s) }

var ErrProcessNotInitialized = errors.New("no process")

type (
	ShutdownCallback    interface{ Run(context.Context) }
	ShutdownCallbackDef interface {
		URL() string
		Method() string
	}
	InitGracefulShutdownRequest interface{ ShutdownCallbackDef() ShutdownCallbackDef }
)

func NewShutdownCallback(any, ShutdownCallbackDef) ShutdownCallback { return nil }
