// Package schema stands for `run:` of a job: those of the tests have `script:`.
package schema

type StepInputs map[string]any

type Step struct {
	Name   *string
	Step   any
	Inputs StepInputs
	Run    []Step
}
