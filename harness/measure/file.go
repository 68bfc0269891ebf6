package measure

import "os"

// LineWriter writes JSON lines into a zstd file whose frames are whole: a crash
// loses at most what came since the last Flush. It is safe for concurrent use.
type LineWriter struct{ f *os.File }

// CreateLines makes the file, which must not exist.
func CreateLines(path string) (*LineWriter, error) { return nil, errNotYet }

// Record appends one request. It makes a LineWriter a load.Recorder.
func (w *LineWriter) Record(r *Record) error { return errNotYet }

// Line appends any value as one JSON line (server and GPU series).
func (w *LineWriter) Line(v any) error { return errNotYet }

// Flush writes what came since the last Flush as one frame.
func (w *LineWriter) Flush() error { return errNotYet }

// Close flushes, syncs and closes.
func (w *LineWriter) Close() error { return errNotYet }

// OpenRecords gives the records of requests.jsonl.zst. A file cut off by a
// crash yields its whole records; a damaged line is an error naming the line.
func OpenRecords(path string) (Source, error) { return nil, errNotYet }

// Join gives the records of several segments of one level, numbered in order.
func Join(segments ...Source) Source { return nil }
