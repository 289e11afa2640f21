// Package fields stands for names in the runner's own log.
package fields

const (
	DurationS      = "duration_s"
	HTTPStatusCode = "status"
)

type Mapping struct{ Standard string }

var (
	Deprecated     = map[string]Mapping{}
	VariantVersion = map[string]int{}
)
