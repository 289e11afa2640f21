// Package snowplow stands for what a runner reports of its use: that of the tests reports nothing.
package snowplow

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

type (
	SendResult struct {
		EventCount, StatusCode int
		Err                    error
	}
	SendCallback              func(successes, failures []SendResult)
	EmitterOption             any
	Emitter                   struct{}
	Tracker                   struct{}
	BillingEventRequiredInput struct {
		Category, EventType, Realm, UnitOfMeasure string
		Quantity                                  float64
	}
	BillingEventOptionalInput struct {
		Subject, DeploymentType, InstanceID, UniqueInstanceID   string
		Metadata                                                map[string]any
		ProjectID, NamespaceID, RootNamespaceID, OrganizationID int64
	}
)

func WithCallback(SendCallback) EmitterOption          { return nil }
func WithTokenSource(any) EmitterOption                { return nil }
func WithMetricsCollectorOptions(...any) EmitterOption { return nil }

func NewEmitter(string, ...EmitterOption) (*Emitter, error) { return nil, errors.New("left out") }
func NewTracker(string, *Emitter) (*Tracker, error)         { return nil, errors.New("left out") }
func (*Emitter) Collector() prometheus.Collector            { return nil }
func (*Tracker) Stop()                                      {}
func (*Tracker) TrackBillingEventWithOptionalInput(BillingEventRequiredInput, BillingEventOptionalInput) error {
	return nil
}
