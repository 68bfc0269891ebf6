// Package load sends the load of one level to a server and writes down what
// came back: arrival plans (pure, arrival.go), the sender (run.go), its own
// HTTP/1.1 client (http.go), the series of /metrics (series.go) and the
// certificate that the client was not the limit (certify.go).
//
// Read spec.go first. It computes no metrics: those come from the records
// alone, in harness/measure.
package load
