package engine

// verify counts the drafts of s that its true continuation confirms, in order,
// and keeps vLLM's books.
//
// Source: docs/vllm.md section 5, fact 9.
func (e *Engine) verify(s *seq) int {
	accepted := 0
	if e.accept != nil {
		for accepted < s.inFlight && e.draw(s, accepted) < e.accept[accepted] {
			accepted++
		}
	} else {
		for accepted < s.inFlight && e.tokens.Token(&s.Request, s.out+accepted) == s.draftIDs[accepted] {
			accepted++
		}
	}
	e.stats.Drafts++
	e.stats.DraftTokens += int64(s.inFlight)
	e.stats.AcceptedTokens += int64(accepted)
	for i := range accepted {
		e.perPos[i]++
	}
	return accepted
}

// propose finds drafts for the next step of a request that has just sampled.
func (e *Engine) propose(s *seq) {
	k := min(e.cfg.Spec.Tokens, e.cfg.MaxModelLen-s.tokens)
	s.drafts = 0
	switch {
	case k <= 0:
	case e.accept != nil:
		if e.draw(s, -1) < e.cfg.Spec.Acceptance.DraftProbability {
			s.drafts = k
		}
	case e.lookingUp():
		if s.lookup == nil {
			s.lookup = newNgrams(e.cfg.Spec.LookupMin, e.cfg.Spec.LookupMax)
		}
		s.draftIDs = s.lookup.propose(text{s.Prompt, s.history}, k, s.draftIDs[:0])
		s.drafts = len(s.draftIDs)
	}
}

// draw gives a number in [0, 1) that depends on the request, its place in the
// output and what it is for, not on the order of draws.
func (e *Engine) draw(s *seq, purpose int) float64 {
	x := e.cfg.Spec.Seed
	for _, v := range [...]uint64{s.Seed, s.ID, uint64(s.out), uint64(int64(purpose))} {
		x = mix(x ^ mix(v+hashSeed))
	}
	return float64(x>>11) / (1 << 53)
}

// mix is the finaliser of SplitMix64 (Steele, Lea, Flood 2014).
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
