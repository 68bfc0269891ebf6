package node

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// A snapshot as the hub makes it: links to blobs elsewhere.
func TestPrefetch(t *testing.T) {
	dir, blobs := filepath.Join(t.TempDir(), "model [1]"), t.TempDir()
	require.NoError(t, os.Mkdir(dir, 0o755))
	sizes := []int{3, prefetchBlock, prefetchBlock + 1, 0, 17, 5, 5, 5, 5, 5, 5, 5}
	total := uint64(0)
	for i, size := range sizes {
		blob := filepath.Join(blobs, string(rune('a'+i)))
		require.NoError(t, os.WriteFile(blob, bytes.Repeat([]byte{1}, size), 0o644))
		require.NoError(t, os.Symlink(blob, filepath.Join(dir, string(rune('a'+i))+".safetensors")))
		total += uint64(size)
	}
	require.NoError(t, os.WriteFile(filepath.Join(dir, "other.bin"), []byte("not weights"), 0o644))
	got, err := Prefetch(t.Context(), dir, total)
	require.NoError(t, err)
	require.Equal(t, len(sizes), got.Files)
	require.Equal(t, total, got.Bytes)

	_, err = Prefetch(t.Context(), dir, total-1)
	require.ErrorIs(t, err, ErrNoRoom)

	why := errors.New("walltime")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	_, err = Prefetch(ctx, dir, total)
	require.ErrorIs(t, err, why)

	require.NoError(t, os.Remove(filepath.Join(blobs, "c")))
	_, err = Prefetch(t.Context(), dir, total)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = Prefetch(t.Context(), blobs, total)
	require.ErrorContains(t, err, "no *.safetensors")
}

func TestPageCacheRoom(t *testing.T) {
	require.Equal(t, uint64(850), Info{MemAvailableBytes: 1000}.PageCacheRoom())
	require.Equal(t, uint64(425), Info{MemAvailableBytes: 1000, MemLimitBytes: 500}.PageCacheRoom())
	require.Equal(t, uint64(850), Info{MemAvailableBytes: 1000, MemLimitBytes: 5000}.PageCacheRoom())
}
