package engine

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the expected schedules in testdata")

// TestScenarios plays testdata/*.txt: commands, a line of dashes, the expected
// schedule. -update rewrites the schedules; invariants are checked even then.
//
//	new k=v ...           an engine; whole, prefix etc. are switches; period=N
//	                      makes the output 1000, 1001 ... 1000+N-1 over and over
//	add NAME k=v ...      a request: prompt=, out=, text=1,2,3, salt=, priority=
//	abort NAME
//	step [N]              N steps, one line each
//	run                   steps until nothing is left, endings only
//	stats, reset
func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			s := &scenario{t: t}
			for _, part := range strings.Split(strings.TrimSpace(string(data)), "\n\n") {
				head, want, _ := strings.Cut(part, "\n----")
				want = strings.TrimPrefix(want, "\n")
				s.out.Reset()
				for _, line := range strings.Split(head, "\n") {
					if line != "" && !strings.HasPrefix(line, "#") {
						s.play(line)
					}
				}
				got := strings.TrimRight(s.out.String(), "\n")
				fmt.Fprintf(&out, "%s\n----\n%s\n\n", head, got)
				if got != want && !*update {
					t.Errorf("%s\n got:\n%s\nwant:\n%s", head, got, want)
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(strings.TrimRight(out.String(), "\n")+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

type scenario struct {
	t     *testing.T
	e     *Engine
	names map[uint64]string
	out   strings.Builder
}

// cycle repeats its own output with a period: ngram finds it.
type cycle struct{ period int32 }

func (c cycle) Token(_ *Request, pos int) int32 { return 1000 + int32(pos)%c.period }

func (s *scenario) play(line string) {
	f := strings.Fields(line)
	kv := map[string]string{}
	for _, a := range f[1:] {
		k, v, _ := strings.Cut(a, "=")
		kv[k] = v
	}
	num := func(key string, def int) int {
		if v, ok := kv[key]; ok {
			n, err := strconv.Atoi(v)
			if err != nil {
				s.t.Fatal(line, err)
			}
			return n
		}
		return def
	}
	on := func(key string) bool { _, ok := kv[key]; return ok }
	switch f[0] {
	case "new":
		c := Config{
			BlockTokens: num("block", 16), NumBlocks: num("blocks", 1001), MaxNumSeqs: num("seqs", 1024),
			MaxNumBatchedTokens: num("budget", 8192), MaxModelLen: num("len", 32768),
			LongPrefillTokenThreshold: num("threshold", 0), Policy: kv["policy"],
			ChunkedPrefill: !on("whole"), PrefixCaching: on("prefix"), ReserveFullISL: on("isl"),
			SkipOversizedWaiting: on("skip"), CountLookupsOnAdmission: on("count-admitted"),
			ReuseUnhashedFirst: on("unhashed-first"),
		}
		var tokens TokenSource
		if on("period") {
			tokens = cycle{int32(num("period", 0))}
		}
		if k := num("ngram", 0); k > 0 {
			c.Spec = Spec{Method: SpecNGram, Tokens: k, LookupMin: num("min", 2), LookupMax: num("max", 4)}
		}
		if k := num("mtp", 0); k > 0 {
			c.Spec = Spec{Method: SpecMTP, Tokens: k, LookaheadTokens: k, DropLastHitBlock: true,
				Acceptance: &Acceptance{DraftProbability: 1, Cumulative: []float64{float64(num("accept", 100)) / 100}}}
		}
		e, err := New(c, StepTimerFunc(func(*StepShape) time.Duration { return time.Millisecond }), tokens)
		if err != nil {
			fmt.Fprintln(&s.out, err)
			return
		}
		s.e, s.names = e, map[uint64]string{}
	case "add":
		r := Request{ID: uint64(len(s.names) + 1), PromptTokens: num("prompt", 1), MaxTokens: num("out", 1), CacheSalt: kv["salt"], Priority: num("priority", 0), IgnoreEOS: true}
		if text := kv["text"]; text != "" {
			for _, run := range strings.Split(text, ",") { // 7x32 is token 7, 32 times
				tok, n, _ := strings.Cut(run, "x")
				id, _ := strconv.Atoi(tok)
				count := 1
				if n != "" {
					count, _ = strconv.Atoi(n)
				}
				for range count {
					r.Prompt = append(r.Prompt, int32(id))
				}
			}
		}
		s.names[r.ID] = f[1]
		if err := s.e.Add(&r); err != nil {
			fmt.Fprintln(&s.out, err)
		}
	case "abort":
		for id, name := range s.names {
			if name == f[1] {
				fmt.Fprintf(&s.out, "abort %s: %v\n", name, s.e.Abort(id))
			}
		}
	case "step":
		n := 1
		if len(f) > 1 {
			n, _ = strconv.Atoi(f[1])
		}
		for range n {
			s.step(true)
		}
	case "run":
		for s.step(false) {
		}
	case "stats":
		st := s.e.Stats()
		fmt.Fprintf(&s.out, "running %d, waiting %d, free %d of %d, preemptions %d, queries %d, hits %d, prompt %d, cached %d, generated %d",
			st.Running, st.Waiting, st.FreeBlocks, st.UsableBlocks, st.Preemptions, st.PrefixQueries, st.PrefixHits, st.PromptTokens, st.CachedTokens, st.GenerationTokens)
		if st.AcceptedPerPosition != nil {
			fmt.Fprintf(&s.out, ", drafts %d, draft tokens %d, accepted %d %v", st.Drafts, st.DraftTokens, st.AcceptedTokens, st.AcceptedPerPosition)
		}
		fmt.Fprintln(&s.out)
	case "reset":
		fmt.Fprintln(&s.out, "reset:", s.e.ResetPrefixCache())
	default:
		s.t.Fatalf("no command %q", f[0])
	}
	if s.e != nil {
		if err := s.e.check(); err != nil {
			s.t.Errorf("after %q: %v", line, err)
		}
	}
}

func (s *scenario) step(print bool) bool {
	if _, ok := s.e.Begin(); !ok {
		if print {
			fmt.Fprintln(&s.out, "nothing to do")
		}
		return false
	}
	if err := s.e.check(); err != nil {
		s.t.Error(err)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d:", s.e.shape.Index)
	chunk := 0
	for _, q := range s.e.running {
		switch {
		case q.scheduled == 0:
			fmt.Fprintf(&b, " %s-", s.names[q.ID])
		case q.prefilling:
			c := s.e.shape.Chunks[chunk]
			chunk++
			fmt.Fprintf(&b, " %s(%d,%d)", s.names[q.ID], c.Tokens, c.Computed)
		default:
			fmt.Fprintf(&b, " %s+%d@%d", s.names[q.ID], q.scheduled, q.computed)
		}
	}
	if s.e.info.Preempted > 0 {
		fmt.Fprintf(&b, " | preempted %d", s.e.info.Preempted)
	}
	if s.e.waiting.len() > 0 {
		b.WriteString(" | waiting")
		for i := range s.e.waiting.len() {
			b.WriteString(" " + s.names[s.e.waiting.at(i).ID])
		}
	}
	fmt.Fprintf(&b, " | free %d", s.e.pool.free)
	if s.e.shape.UniformDecode {
		b.WriteString(" | uniform")
	}
	outs := s.e.End(nil)
	for i, o := range outs {
		sep := " "
		if i == 0 {
			sep = " -> "
		}
		fmt.Fprintf(&b, "%s%s %d", sep, s.names[o.Request.ID], o.Tokens)
		if o.Finish != FinishNone {
			fmt.Fprintf(&b, " %s (%d out, %d cached)", o.Finish, o.First+o.Tokens, o.CachedTokens)
		}
	}
	ended := false
	for _, o := range outs {
		ended = ended || o.Finish != FinishNone
	}
	if print || ended {
		fmt.Fprintln(&s.out, b.String())
	}
	return true
}

// check finds broken invariants of blocks and queues.
func (e *Engine) check() error {
	p := e.pool
	refs := make([]int32, len(p.blocks))
	for _, s := range e.running {
		if s.state != running || s.computed > len(s.blocks)*e.cfg.BlockTokens {
			return fmt.Errorf("request %d: state %d, %d tokens computed in %d blocks", s.ID, s.state, s.computed, len(s.blocks))
		}
		for i, id := range s.blocks {
			refs[id]++
			if b := p.blocks[id]; s.Prompt != nil && i < s.published && (b.content != contentShared || b.hash != s.hashes[i]) {
				return fmt.Errorf("request %d: block %d does not hold its tokens", s.ID, i)
			}
		}
	}
	free := p.usable - len(p.blocks)
	for id, n := range refs {
		if p.blocks[id].ref != n {
			return fmt.Errorf("block %d: counted %d users, has %d", id, p.blocks[id].ref, n)
		}
		if n == 0 {
			free++
		}
	}
	listed := p.usable - len(p.blocks)
	for _, l := range []list{p.front, p.lru} {
		last := none
		for id := l.head; id != none; id = p.blocks[id].next {
			if p.blocks[id].prev != last || p.blocks[id].ref != 0 {
				return fmt.Errorf("free list is broken at block %d", id)
			}
			last = id
			if listed++; listed > p.usable {
				return fmt.Errorf("free list has a loop")
			}
		}
		if l.tail != last {
			return fmt.Errorf("free list ends at %d, not %d", l.tail, last)
		}
	}
	if free != p.free || listed != p.free || p.free < 0 {
		return fmt.Errorf("%d blocks are free, %d listed, %d counted", free, listed, p.free)
	}
	for hash, id := range p.table {
		first, before := id, p.blocks[id].dupPrev
		for ; id != none; id = p.blocks[id].dup {
			if id != first && p.blocks[id].dupPrev != before {
				return fmt.Errorf("duplicates of block %d are not linked", first)
			}
			before = id
			if p.blocks[id].dup == none && p.blocks[first].dupPrev != id {
				return fmt.Errorf("block %d does not know its last duplicate", first)
			}
			if b := p.blocks[id]; b.hash != hash || b.content != contentShared {
				return fmt.Errorf("the table has block %d under another hash", id)
			}
		}
	}
	if len(e.running) > e.cfg.MaxNumSeqs {
		return fmt.Errorf("%d requests run, at most %d may", len(e.running), e.cfg.MaxNumSeqs)
	}
	return e.checkOrder()
}

// checkOrder: first come, first served.
func (e *Engine) checkOrder() error {
	if e.cfg.Policy == PolicyPriority || e.cfg.SkipOversizedWaiting && !e.cfg.ChunkedPrefill {
		return nil
	}
	last := uint64(0)
	all := append([]*seq(nil), e.running...)
	for i := range e.waiting.len() {
		all = append(all, e.waiting.at(i))
	}
	for _, s := range all {
		if s.uid <= last {
			return fmt.Errorf("request %d stands behind a later one", s.ID)
		}
		last = s.uid
	}
	return nil
}
