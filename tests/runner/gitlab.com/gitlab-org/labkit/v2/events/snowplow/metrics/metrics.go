package metrics

type CollectorOption = any

func WithCollectorNamespace(string) CollectorOption                       { return nil }
func WithCollectorBatchDeliveryDurationBuckets([]float64) CollectorOption { return nil }
