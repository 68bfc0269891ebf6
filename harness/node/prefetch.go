package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// Prefetched is what reading weights into the page cache came to.
type Prefetched struct {
	Files int
	Bytes uint64
	Took  time.Duration
}

func (p Prefetched) String() string {
	const giga = 1e9
	text := fmt.Sprintf("%d weight files, %s, in %s", p.Files, gib(p.Bytes), p.Took.Round(100*time.Millisecond))
	if p.Took > 0 {
		text += fmt.Sprintf(": %.2f GB/s", float64(p.Bytes)/giga/p.Took.Seconds())
	}
	return text
}

// ErrNoRoom says that the weights do not fit the memory of the job beside all else:
// reading them would push out what was read first.
var ErrNoRoom = errors.New("the page cache cannot hold the weights")

const (
	// prefetchReaders and prefetchBlock: a few sequential readers with large blocks
	// are what parallel file systems serve best. vLLM reads by page faults, which
	// some of them serve a thousand times slower.
	// Source: docs/node.md, reading the weights beforehand.
	prefetchReaders = 8
	prefetchBlock   = 8 << 20
)

// memoryRoom is the smaller of available memory and cgroup limit, in bytes; 0 where
// neither is known.
func (i Info) memoryRoom() uint64 {
	if i.MemLimitBytes > 0 && (i.MemAvailableBytes == 0 || i.MemLimitBytes < i.MemAvailableBytes) {
		return i.MemLimitBytes
	}
	return i.MemAvailableBytes
}

// PageCacheRoom is how many bytes of files the page cache of this job may hold: 85 %
// of its memory, since page cache counts against the cgroup's limit.
func (i Info) PageCacheRoom() uint64 { return i.memoryRoom() / 100 * 85 }

// Prefetch reads the weights in dir once, from the first byte to the last, so that
// every start of the job finds them in the page cache. It fails with [ErrNoRoom],
// wrapped, before it reads anything, where room bytes are not enough.
func Prefetch(ctx context.Context, dir string, room uint64) (Prefetched, error) {
	files, err := filepath.Glob(filepath.Join(globEscape(dir), "*.safetensors"))
	if err != nil {
		return Prefetched{}, fmt.Errorf("weights in %s: %w", dir, err)
	}
	if len(files) == 0 {
		return Prefetched{}, fmt.Errorf("no *.safetensors in %s", dir)
	}
	slices.Sort(files)
	total := uint64(0)
	for _, file := range files {
		info, err := os.Stat(file) // through the link: a hub snapshot holds links to blobs
		if err != nil {
			return Prefetched{}, fmt.Errorf("weights: %w", err)
		}
		total += uint64(info.Size())
	}
	if total > room {
		return Prefetched{}, fmt.Errorf("%w: %s of weights, room for %s", ErrNoRoom, gib(total), gib(room))
	}
	began := time.Now()
	read, err := readAll(ctx, files)
	return Prefetched{len(files), read, time.Since(began)}, err
}

// readAll reads files with a few readers, each a file at a time.
func readAll(ctx context.Context, files []string) (total uint64, err error) {
	queue := make(chan string)
	var mu sync.Mutex
	var readers sync.WaitGroup
	for range min(prefetchReaders, len(files)) {
		readers.Go(func() {
			block := make([]byte, prefetchBlock)
			for file := range queue {
				n, e := readThrough(ctx, file, block)
				mu.Lock()
				total += n
				err = errors.Join(err, e)
				mu.Unlock()
			}
		})
	}
	for _, file := range files {
		queue <- file
	}
	close(queue)
	readers.Wait()
	return total, err
}

func readThrough(ctx context.Context, path string, block []byte) (total uint64, err error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for ctx.Err() == nil {
		n, err := file.Read(block)
		total += uint64(n)
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
	return total, context.Cause(ctx)
}
