package pbstest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"mvdan.cc/sh/v3/syntax"
)

// socketVariable tells a client program which server to ask, commandVariable which
// command it is.
const (
	socketVariable  = "PBSTEST_SOCKET"
	commandVariable = "PBSTEST_COMMAND"
)

type wireCall struct {
	Command string
	Call    Call
}

// Main makes the calling program a PBS command if InstallCommands started it as one,
// and does not return then. Call it first in TestMain (or main).
func Main() {
	command := os.Getenv(commandVariable)
	if command == "" {
		return
	}
	os.Exit(client(command, os.Getenv(socketVariable), os.Args[1:]))
}

func client(command, socket string, args []string) int {
	connection, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintf(os.Stderr, "Connection refused\n%s: cannot connect to server pbstest (errno=15010)\n", command)
		return 162
	}
	defer connection.Close()
	dir, err := os.Getwd()
	if err != nil {
		fmt.Fprintln(os.Stderr, command+": "+err.Error())
		return 1
	}
	call := wireCall{command, Call{Args: args, Dir: dir}}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, socketVariable+"=") && !strings.HasPrefix(entry, commandVariable+"=") {
			call.Call.Env = append(call.Call.Env, entry)
		}
	}
	if command == "qsub" && readsStdin(args) {
		if call.Call.Stdin, err = io.ReadAll(os.Stdin); err != nil {
			return 1
		}
	}
	var reply Reply
	if err := errors.Join(json.NewEncoder(connection).Encode(call), json.NewDecoder(connection).Decode(&reply)); err != nil {
		fmt.Fprintln(os.Stderr, command+": "+err.Error())
		return 1
	}
	fmt.Print(reply.Stdout)
	fmt.Fprint(os.Stderr, reply.Stderr)
	return reply.Exit
}

// readsStdin reports whether qsub gets no script by name; a wrong guess only reads
// an input that is not used.
func readsStdin(args []string) bool {
	return len(args) == 0 || args[len(args)-1] == "-" || strings.HasPrefix(args[len(args)-1], "-")
}

// InstallCommands writes qsub, qdel, qstat, qsig and qrls into dir: programs that ask
// this server. program is the executable that calls Main, normally os.Executable().
// Jobs find them on their PATH, through the home directory's profile.
func (s *Server) InstallCommands(dir, program string) error {
	if s.socket == nil {
		// The path of a unix socket has at most 107 bytes: not below a test's folder.
		folder, err := os.MkdirTemp("", "pbs")
		if err != nil {
			return err
		}
		if s.socket, err = s.listen(folder); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	socket, err1 := syntax.Quote(s.socket.path, syntax.LangPOSIX)
	quoted, err2 := syntax.Quote(program, syntax.LangPOSIX)
	path, err3 := syntax.Quote(dir, syntax.LangPOSIX)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	for _, command := range []string{"qsub", "qdel", "qstat", "qsig", "qrls"} {
		text := fmt.Sprintf("#!/bin/sh\n%s=%s %s=%s exec %s \"$@\"\n", socketVariable, socket, commandVariable, command, quoted)
		if err := os.WriteFile(filepath.Join(dir, command), []byte(text), 0o755); err != nil {
			return err
		}
	}
	s.commands = path
	return s.writeProfile()
}

type listener struct {
	net.Listener
	path, folder string
	handlers     sync.WaitGroup
	cancel       context.CancelFunc
}

func (s *Server) listen(folder string) (*listener, error) {
	path := filepath.Join(folder, "s")
	accept, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &listener{Listener: accept, path: path, folder: folder, cancel: cancel}
	l.handlers.Add(1)
	go func() {
		defer l.handlers.Done()
		for {
			connection, err := l.Accept()
			if err != nil {
				return // closed
			}
			l.handlers.Add(1)
			go func() {
				defer l.handlers.Done()
				defer connection.Close()
				s.serve(ctx, connection)
			}()
		}
	}()
	return l, nil
}

func (l *listener) close() error {
	l.cancel()
	err := l.Close()
	l.handlers.Wait()
	return errors.Join(err, os.RemoveAll(l.folder))
}

func (s *Server) serve(ctx context.Context, connection net.Conn) {
	var call wireCall
	if err := json.NewDecoder(connection).Decode(&call); err != nil {
		return
	}
	var reply Reply
	switch call.Command {
	case "qsub":
		reply = s.Submit(ctx, call.Call)
	case "qdel":
		reply = s.Delete(call.Call)
	case "qstat":
		reply = s.Stat(call.Call)
	case "qsig":
		reply = s.Signal(call.Call)
	case "qrls":
		reply = s.Release(call.Call)
	}
	_ = json.NewEncoder(connection).Encode(reply) // a client that left needs none
}
