package mockvllm

import (
	"syscall"
	"unsafe"
)

// sendNow writes to a socket without blocking and without telling the scheduler:
// the call takes some 7 us, and giving the processor away and back for it costs
// a third more (docs/performance.md). again is set if the socket is full.
func sendNow(fd uintptr, b []byte) (n int, again bool) {
	if len(b) == 0 {
		return 0, false
	}
	for {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)),
			syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(r), int(r) < len(b)
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, true
		}
		return 0, false
	}
}
