//go:build !linux

package mockvllm

func newFDWaiter() (waiter, error) { return newTimerWaiter(), nil }
