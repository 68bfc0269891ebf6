// Package measure turns what came over the wire into numbers that can be
// defended: the reader of server-sent events, the record of one request, the
// metrics computed from records alone, the verdict on a result, and the shape
// of run.json.
//
// Read record.go first (what is kept of a request), then metrics.go (every
// formula, also in docs/metrics.md), verdict.go (when a result is not valid)
// and run.go (the file).
//
// It sends nothing, starts no goroutine and reads no clock: harness/load does.
package measure
