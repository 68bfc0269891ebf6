package server

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/glm46/glm46/mockvllm/vllm"
)

// boundSocket is a socket that has its address and does not listen yet: until
// then clients are refused, as by a vLLM that is starting.
type boundSocket struct {
	fd   int
	uds  string
	port int
}

// portError is a port that no machine has. vLLM's parser takes it and binding
// fails with a traceback; here it is a wrong flag.
type portError struct{ port int }

func (e *portError) Error() string {
	return fmt.Sprintf("argument --port: invalid value %d: want 0 to 65535", e.port)
}

// bind takes the address. Without --host it is 127.0.0.1, where vLLM would take
// all interfaces: a mock has no business on a network.
func bind(a vllm.ServeArgs) (*boundSocket, error) {
	if a.Port < 0 || a.Port > 65535 {
		return nil, &portError{a.Port}
	}
	if a.UDS != "" {
		return &boundSocket{fd: -1, uds: a.UDS, port: a.Port}, nil
	}
	host := a.Host
	if host == "" {
		host = "127.0.0.1"
	}
	addr, err := net.ResolveTCPAddr("tcp", net.JoinHostPort(host, strconv.Itoa(a.Port)))
	if err != nil {
		return nil, fmt.Errorf("--host %q --port %d: %w", a.Host, a.Port, err)
	}
	family := unix.AF_INET6
	var sa unix.Sockaddr
	if ip := addr.IP.To4(); ip != nil {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: addr.Port, Addr: [4]byte(ip)}
	} else {
		sa = &unix.SockaddrInet6{Port: addr.Port, Addr: [16]byte(addr.IP.To16())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	s := &boundSocket{fd: fd, port: addr.Port}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		s.close()
		return nil, os.NewSyscallError("setsockopt", err)
	}
	if err := unix.Bind(fd, sa); err != nil {
		s.close()
		return nil, fmt.Errorf("port %d: %w", addr.Port, os.NewSyscallError("bind", err))
	}
	if addr.Port == 0 {
		if bound, err := unix.Getsockname(fd); err == nil {
			switch b := bound.(type) {
			case *unix.SockaddrInet4:
				s.port = b.Port
			case *unix.SockaddrInet6:
				s.port = b.Port
			}
		}
	}
	return s, nil
}

// backlog of connections that wait to be accepted. Source: uvicorn, 2048.
const backlog = 2048

// listen begins to accept connections.
func (s *boundSocket) listen() (net.Listener, error) {
	if s.uds != "" {
		var lc net.ListenConfig
		return lc.Listen(context.Background(), "unix", s.uds)
	}
	if err := unix.Listen(s.fd, backlog); err != nil {
		return nil, fmt.Errorf("port %d: %w", s.port, os.NewSyscallError("listen", err))
	}
	f := os.NewFile(uintptr(s.fd), "listener")
	s.fd = -1
	defer f.Close()
	return net.FileListener(f) // its own copy of the descriptor
}

func (s *boundSocket) close() {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
		s.fd = -1
	}
}
