package value

import "errors"

type Kind string

const (
	NullKind   Kind = "null"
	StringKind Kind = "string"
	NumberKind Kind = "number"
	BoolKind   Kind = "bool"
	ArrayKind  Kind = "array"
	ObjectKind Kind = "object"
)

var (
	ErrAttributeNotFound = errors.New("no such attribute")
	ErrInvalidKey        = errors.New("no key")
)

type Mapper any

type Value struct{ text string }

func Null() Value              { return Value{} }
func String(text string) Value { return Value{text} }
func Object(Mapper) Value      { return Value{} }

func (v Value) Kind() Kind             { return NullKind }
func (v Value) String() string         { return v.text }
func (v Value) HasMarks(uint16) bool   { return false }
func (v Value) WithMarks(uint16) Value { return v }
