// Package cron stands for the times at which a runner keeps pods idle: that of the tests keeps none.
package cron

import "time"

type Schedule struct{}

func Parse(string, string) (Schedule, error) { return Schedule{}, nil }

func (Schedule) Contains(time.Time) bool { return true }
