package measure

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func someRecord(i, events int) *Record {
	r := stream(time.Duration(i)*ms, time.Duration(i+1)*ms, 100*ms, 20*ms, repeat(1, events)...)
	r.SampleID, r.RequestID, r.Level, r.Endpoint = fmt.Sprintf("s%d", i), fmt.Sprintf("r%d", i), "c1", EndpointChat
	return r
}

func drain(t testing.TB, src Source) ([]*Record, error) {
	t.Helper()
	var out []*Record
	for r, err := range src() {
		if err != nil {
			return out, err
		}
		c := *r
		c.Events = append(Events(nil), r.Events...)
		out = append(out, &c)
	}
	return out, nil
}

func TestRecordRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := someRecord(rapid.IntRange(0, 1000).Draw(t, "i"), rapid.IntRange(1, 50).Draw(t, "events"))
		r.SampleID = rapid.String().Draw(t, "id")
		r.Detail = rapid.String().Draw(t, "detail")
		if rapid.Bool().Draw(t, "cached") {
			n := rapid.IntRange(0, math.MaxInt32).Draw(t, "n")
			r.CachedTokens = &n
		}
		if rapid.Bool().Draw(t, "failed") {
			r.Outcome = Stalled
			r.Events = Events{}
		}
		line, err := r.AppendJSON(nil)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.IndexByte(line, '\n') >= 0 || !json.Valid(line) {
			t.Fatalf("not one line of JSON: %q", line)
		}
		var back Record
		if err := ParseRecord(line, &back); err != nil {
			t.Fatal(err)
		}
		again, err := back.AppendJSON(nil)
		if err != nil || !bytes.Equal(line, again) {
			t.Fatalf("%v:\n%s\n%s", err, line, again)
		}
		// The plain way gives the same bytes.
		plain, err := json.Marshal(plainRecord(*r))
		if err != nil || !bytes.Equal(plain, line) {
			t.Fatalf("%v:\n%s\n%s", err, plain, line)
		}
	})
}

func TestRecordFields(t *testing.T) {
	// The names are a contract with other readers.
	r := someRecord(1, 2)
	cached := 16
	r.CachedTokens = &cached
	r.HTTPStatus, r.Detail = 200, "d"
	line, err := r.AppendJSON(nil)
	require.NoError(t, err)
	require.JSONEq(t, `{"sample_id":"s1","request_id":"r1","phase":"main","level":"c1","endpoint":"chat","segment":0,
		"intended_ns":1000000,"sent_ns":2000000,"first_token_ns":102000000,"first_content_ns":102000000,"last_token_ns":122000000,"end_ns":122000000,
		"prompt_tokens":100,"completion_tokens":2,"cached_tokens":16,"token_source":"continuous_usage","requested_tokens":2,"length_forced":true,
		"finish_reason":"length","outcome":"ok","http_status":200,"detail":"d","event_count":4,"event_bytes":400,
		"events":[[102000000,1],[122000000,1]]}`, string(line))
}

func TestParseRecordRefuses(t *testing.T) {
	good, err := someRecord(1, 2).AppendJSON(nil)
	require.NoError(t, err)
	for _, change := range []struct{ old, new string }{
		{`"phase":"main"`, `"phase":"x"`}, {`"outcome":"ok"`, `"outcome":""`}, {`"sent_ns":2000000,`, ``}, {`"end_ns":122000000`, `"end_ns":-1`},
		{`"completion_tokens":2`, `"completion_tokens":-2`}, {`[122000000,1]`, `[1,1]`}, {`[122000000,1]`, `[122000000,0]`}, {`[122000000,1]`, `[122000000]`},
		{`[122000000,1]`, `x`}, {`[[102000000,1],[122000000,1]]`, `7`}, {`[[102000000,1],[122000000,1]]`, `[]`}, {`[122000000,1]`, `[99999999999999999999,1]`},
	} {
		line := strings.Replace(string(good), change.old, change.new, 1)
		require.NotEqual(t, string(good), line, change.old)
		var r Record
		if err := ParseRecord([]byte(line), &r); err == nil {
			t.Errorf("%s instead of %s was accepted", change.new, change.old)
		}
	}
}

func FuzzParseRecord(f *testing.F) {
	for i := range 3 {
		line, err := someRecord(i, i+1).AppendJSON(nil)
		require.NoError(f, err)
		f.Add(line)
	}
	f.Add([]byte(`{"phase":"warmup","outcome":"stalled","events":[ [ 1 , 2 ] ,[3,4]]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		var r, plain Record
		err := ParseRecord(line, &r)
		fault := json.Unmarshal(line, (*plainRecord)(&plain))
		if fault == nil {
			fault = plain.validate()
		}
		require.Equal(t, fault == nil, err == nil, "encoding/json: %v, ParseRecord: %v", fault, err)
		if err != nil {
			return
		}
		if len(plain.Events)+len(r.Events) == 0 {
			plain.Events = r.Events // nil or empty
		}
		require.Equal(t, plain, r)
		// What is accepted is written back in a form that gives the same record,
		// and can be summarised.
		once, err := r.AppendJSON(nil)
		require.NoError(t, err)
		var again Record
		require.NoError(t, ParseRecord(once, &again))
		twice, err := again.AppendJSON(nil)
		require.NoError(t, err)
		require.Equal(t, string(once), string(twice))
		if r.Segment >= 0 && r.Segment < 1000 {
			_, err = Summarize(Records([]*Record{&r}), SummaryOptions{})
			require.NoError(t, err)
		}
	})
}

func TestLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "requests.jsonl.zst")
	w, err := CreateLines(path)
	require.NoError(t, err)
	const n = 40
	var ends []int64 // of the file, by number of records behind a flush
	for i := range n {
		require.NoError(t, w.Record(someRecord(i, 100)))
		if i%4 == 3 {
			require.NoError(t, w.Flush())
			info, err := os.Stat(path)
			require.NoError(t, err)
			ends = append(ends, info.Size())
		}
	}
	require.NoError(t, w.Close())
	require.NoError(t, w.Close(), "closing twice")
	require.Error(t, w.Record(someRecord(0, 1)), "writing behind the end")
	_, err = CreateLines(path)
	require.ErrorIs(t, err, os.ErrExist, "nothing is overwritten")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	src, err := OpenRecords(path)
	require.NoError(t, err)
	for range 2 { // as often as asked
		records, err := drain(t, src)
		require.NoError(t, err)
		require.Len(t, records, n)
		require.Equal(t, someRecord(7, 100), records[7])
	}

	// A crash cuts the file anywhere: all flushed records are there, and nothing
	// is an error.
	cut := filepath.Join(t.TempDir(), "cut.zst")
	for size := 0; size <= len(whole); size += 1 + len(whole)/200 {
		require.NoError(t, os.WriteFile(cut, whole[:size], 0o600))
		src, err := OpenRecords(cut)
		require.NoError(t, err)
		records, err := drain(t, src)
		require.NoError(t, err, "cut at %d", size)
		flushed := 0
		for i, end := range ends {
			if int64(size) >= end {
				flushed = 4 * (i + 1)
			}
		}
		require.GreaterOrEqual(t, len(records), flushed, "cut at %d of %d", size, len(whole))
		for i, r := range records {
			require.Equal(t, fmt.Sprintf("s%d", i), r.SampleID)
		}
	}

	// Damage is an error that names the line, never silence.
	broken := bytes.Clone(whole)
	broken[len(broken)/2] ^= 0xff
	require.NoError(t, os.WriteFile(cut, broken, 0o600))
	src, err = OpenRecords(cut)
	require.NoError(t, err)
	_, err = drain(t, src)
	var line *LineError
	if !errors.As(err, &line) || line.Line < 2 {
		t.Errorf("a damaged file: %v", err)
	}
}

func TestLinesFail(t *testing.T) {
	w, err := CreateLines(filepath.Join(t.TempDir(), "x"))
	require.NoError(t, err)
	require.NoError(t, w.f.Close()) // as a full disk would
	require.NoError(t, w.Line(map[string]int{"a": 1}))
	require.Error(t, w.Flush())
	require.Error(t, w.Flush(), "the failure stays")
	require.Error(t, w.Close())
}

const metricsPage = `# HELP vllm:num_requests_running x
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 12.0
vllm:num_requests_running{engine="1",model_name="m"} 3.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{reason="capacity"} 3.0
vllm:num_requests_waiting_by_reason{reason="deferred"} 1.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.75
# TYPE vllm:prompt_tokens_total counter
vllm:prompt_tokens_total{engine="0"} 1.5e+06
# TYPE vllm:prompt_tokens_created gauge
vllm:prompt_tokens_created{engine="0"} 1.7e+09
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0"} 100.0
# TYPE vllm:request_success_total counter
vllm:request_success_total{finished_reason="stop"} 1.0
vllm:request_success_total{finished_reason="length"} 7.0
vllm:request_success_total{finished_reason="abort"} 2.0
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total 5.0
# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total 100.0
# TYPE vllm:spec_decode_num_draft_tokens_total counter
vllm:spec_decode_num_draft_tokens_total 300.0
# TYPE vllm:spec_decode_num_accepted_tokens_total counter
vllm:spec_decode_num_accepted_tokens_total 120.0
# TYPE vllm:spec_decode_num_accepted_tokens_per_pos_total counter
vllm:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 70.0
vllm:spec_decode_num_accepted_tokens_per_pos_total{position="1"} 50.0
# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="16",num_gpu_blocks="100"} 1.0
# TYPE glm46_mock_token_lateness_seconds histogram
glm46_mock_token_lateness_seconds_bucket{le="0.001"} 10
glm46_mock_token_lateness_seconds_bucket{le="0.002"} 30
glm46_mock_token_lateness_seconds_bucket{le="+Inf"} 40
glm46_mock_token_lateness_seconds_sum 1
glm46_mock_token_lateness_seconds_count 40
`

func TestParseCounters(t *testing.T) {
	page := metricsPage + `# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total 900.0
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total 160.0
`
	old := metricsPage + `# TYPE vllm:gpu_prefix_cache_queries_total counter
vllm:gpu_prefix_cache_queries_total 900.0
# TYPE vllm:gpu_prefix_cache_hits_total counter
vllm:gpu_prefix_cache_hits_total 160.0
`
	for name, text := range map[string]string{"new": page, "old": strings.ReplaceAll(old, "vllm:kv_cache_usage", "vllm:gpu_cache_usage")} {
		c, err := ParseCounters(strings.NewReader(text), ms)
		require.NoError(t, err)
		if c.Running != 15 || c.Waiting != 4 || *c.WaitingFull != 3 || c.KVUsage != 0.75 || c.PromptTokens != 1.5e6 || c.GenerationTokens != 100 ||
			c.SuccessTotal() != 8 || c.Aborted() != 2 || c.Preemptions != 5 || c.PrefixQueries != 900 || c.PrefixHits != 160 || c.CacheConfig["block_size"] != "16" {
			t.Errorf("%s: %+v", name, c)
		}
		s := SpecDecodeBetween(&Counters{SpecDrafts: 50, SpecDraftTokens: 150, SpecAccepted: 20}, c)
		near(t, "acceptance rate", s.AcceptanceRate, 100.0/150)
		near(t, "acceptance length", s.AcceptanceLength, 3)
		near(t, "first position", s.PerPositionShares[0], 1.4)
		late, ok := c.MockLate.MedianSince(nil)
		require.True(t, ok)
		near(t, "median lateness", late, 0.0015)
	}
	c, err := ParseCounters(strings.NewReader("# TYPE other counter\nother 1\n"), 0)
	require.NoError(t, err)
	require.Empty(t, c.Has)
	_, err = ParseCounters(strings.NewReader("<html>"), 0)
	require.Error(t, err)
}

func FuzzParseCounters(f *testing.F) {
	f.Add([]byte(metricsPage))
	f.Add([]byte("vllm:kv_cache_usage_perc NaN\n"))
	f.Fuzz(func(t *testing.T, page []byte) {
		c, err := ParseCounters(bytes.NewReader(page), 0)
		if err == nil {
			_ = SpecDecodeBetween(c, c)
			_, _ = c.MockLate.MedianSince(c.MockLate)
			_, _ = CountersCheck(TokenTotals{}, c, c)
		}
	})
}
