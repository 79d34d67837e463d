// The schemas of ServiceMonitor and PrometheusRule for `make manifests-check`: its scripts read example/prometheus-operator-crd
// of this module. Nothing is built, so `go mod tidy` would take it away.
module taskqueue-exporter/deploy/kubernetes/tools/crds

go 1.26.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
