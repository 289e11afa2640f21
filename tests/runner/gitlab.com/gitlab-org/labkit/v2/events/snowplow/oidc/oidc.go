package oidc

type Option any

func WithSkipIfUnsupportedCloud(bool) Option { return nil }
func NewSource(...Option) any                { return nil }
