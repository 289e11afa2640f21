package client

import "time"

type State string

const (
	StateSuccess   State = "success"
	StateCancelled State = "cancelled"
)

func (s State) String() string { return string(s) }

type ErrorKind int

const (
	ErrorInternal ErrorKind = iota
	ErrorStepFailure
	ErrorCancelled
	ErrorTimeout
	ErrorUnknown
)

type Status struct {
	State     State
	Message   string
	ExitCode  int32
	ErrorKind ErrorKind
}

type Variable struct {
	Key, Value   string
	File, Masked bool
}

type RunRequest struct {
	Id, WorkDir, BuildDir, Steps string
	Timeout                      *time.Duration
	Env                          map[string]string
	Variables                    []Variable
}
