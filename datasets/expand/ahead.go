package expand

import "io"

// Ahead reads from a stream in a goroutine of its own, so that expanding and
// parsing use two cores. Close ends the goroutine and waits for it.
type Ahead struct {
	full  chan block
	empty chan []byte
	stop  chan struct{}
	done  chan struct{}
	now   block
	err   error
}

// block is a part of the stream, and what ended it.
type block struct {
	data []byte
	buf  []byte
	err  error
}

const (
	aheadBlocks = 4
	aheadBytes  = 128 << 10
)

// NewAhead begins to read from r. r must not be used until Close has returned.
func NewAhead(r io.Reader) *Ahead {
	a := &Ahead{
		full: make(chan block, aheadBlocks), empty: make(chan []byte, aheadBlocks),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	for range aheadBlocks {
		a.empty <- make([]byte, aheadBytes)
	}
	go a.fill(r)
	return a
}

func (a *Ahead) fill(r io.Reader) {
	defer close(a.done)
	for {
		var buf []byte
		select {
		case <-a.stop:
			return
		case buf = <-a.empty:
		}
		n, err := io.ReadFull(r, buf)
		if err == io.ErrUnexpectedEOF {
			// ReadFull says so of an end within the block; a stream that was
			// cut says it with an error of its own kind.
			err = io.EOF
		}
		a.full <- block{buf[:n], buf, err} // has room for every buffer
		if err != nil {
			return
		}
	}
}

// Read returns what was read ahead.
func (a *Ahead) Read(p []byte) (int, error) {
	for len(a.now.data) == 0 {
		if a.err != nil {
			return 0, a.err
		}
		if a.now.buf != nil {
			a.empty <- a.now.buf // has room for every buffer
		}
		a.now = <-a.full
		a.err = a.now.err
	}
	n := copy(p, a.now.data)
	a.now.data = a.now.data[n:]
	return n, nil
}

// Close ends reading.
func (a *Ahead) Close() {
	close(a.stop)
	<-a.done
}
