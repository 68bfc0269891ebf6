package mockvllm

import (
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"time"
)

// truthRecord is what the truth file says of one request: when each token was
// due and when it was handed to the kernel, in wall time that no speed scales.
type truthRecord struct {
	tokens []truthToken
}

type truthToken struct{ due, written int64 }

// wrote notes that the events of marks have been written.
func (r *truthRecord) wrote(marks []mark, at time.Time) {
	ns := at.UnixNano()
	for _, m := range marks {
		due := m.due.UnixNano()
		for range m.tokens {
			r.tokens = append(r.tokens, truthToken{due, ns})
		}
	}
}

// truthFile writes one JSON line a request.
type truthFile struct {
	mu sync.Mutex
	w  io.Writer
}

// write appends the line of a request. The line is written whole: a reader never
// sees half of a request that has ended.
//
// Source: docs/mock.md, truth file.
func (t *truthFile) write(id string, arrived time.Time, promptTokens int, r *truthRecord, end string) {
	line := make([]byte, 0, 128+len(r.tokens)*80)
	line = append(line, `{"request_id":`...)
	name, _ := json.Marshal(id)
	line = append(line, name...)
	line = append(line, `,"arrival_unix_ns":`...)
	line = strconv.AppendInt(line, arrived.UnixNano(), 10)
	line = append(line, `,"prompt_tokens":`...)
	line = strconv.AppendInt(line, int64(promptTokens), 10)
	line = append(line, `,"tokens":[`...)
	for n, k := range r.tokens {
		if n > 0 {
			line = append(line, ',')
		}
		line = append(line, `{"n":`...)
		line = strconv.AppendInt(line, int64(n), 10)
		line = append(line, `,"due_unix_ns":`...)
		line = strconv.AppendInt(line, k.due, 10)
		line = append(line, `,"written_unix_ns":`...)
		line = strconv.AppendInt(line, k.written, 10)
		line = append(line, '}')
	}
	line = append(line, `],"end":`...)
	why, _ := json.Marshal(end)
	line = append(line, why...)
	line = append(line, "}\n"...)
	t.mu.Lock()
	defer t.mu.Unlock()
	_, _ = t.w.Write(line)
}
