package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/glm46/glm46/datasets"
	"github.com/glm46/glm46/harness/experiment"
	"github.com/glm46/glm46/harness/load"
	"github.com/glm46/glm46/harness/measure"
	"github.com/glm46/glm46/harness/node"
	"github.com/glm46/glm46/harness/result"
)

// BenchName is the experiment name of results of servers that are not ours.
const BenchName = "bench"

// BenchOptions are what to measure on a server that is already running.
type BenchOptions struct {
	URL, Model, APIKey string
	// Data is a file of samples, or a folder of data sets; Dataset names one.
	Data, Dataset string
	NumSamples    int // 0: all
	MaxTokens     int // 0: each sample's target
	Concurrency   int // 0: 1, or no cap in an open loop
	RequestRate   float64
	ResultsDir    string
	Limits        load.Limits
	Endpoint      measure.Endpoint
	NaturalStop   bool
	NoCertificate bool
	System        *node.System
	ToolVersion   string
	Observer      Observer
}

// Bench measures one level on a running server and records it like a run.
//
// It fails with the data set's errors, or with a *TargetError where the server
// does not answer.
func Bench(ctx context.Context, o BenchOptions) (*Outcome, error) {
	if o.System == nil {
		o.System = node.Host()
	}
	if o.Observer == nil {
		o.Observer = silent{}
	}
	set, err := datasets.Load(ctx, o.Data, o.Dataset, datasets.LoadOptions{})
	if err != nil {
		return nil, err
	}
	noteWarnings(o.Observer, set)
	srv, version, err := o.ask(ctx)
	if err != nil {
		return nil, err
	}
	level := experiment.Level{Concurrency: o.Concurrency, RequestRate: o.RequestRate}
	if level.RequestRate <= 0 && level.Concurrency <= 0 {
		level.Concurrency = 1
	}
	level.Name = result.LevelName(level.Concurrency, level.RequestRate)
	samples := o.NumSamples
	if samples <= 0 {
		samples = len(set.Samples)
	}
	name := set.Name
	if !result.ValidName(name) {
		name = "data"
	}
	cell := experiment.Cell{
		ID: BenchName, Experiment: BenchName, ExpName: BenchName, Config: benchConfig(o.URL), Dataset: name, Custom: true,
		Settings: experiment.Settings{NumSamples: samples, MaxTokens: o.MaxTokens, EnablePrefixCaching: true},
		Levels:   []experiment.Level{level},
	}
	c := &campaign{
		o: Options{Limits: o.Limits, NaturalStop: o.NaturalStop, NoCertificate: o.NoCertificate, ResultsDir: o.ResultsDir,
			System: o.System, ToolVersion: o.ToolVersion},
		observer: o.Observer, model: srv.target.Model, outcome: &Outcome{Cells: []CellOutcome{{Cell: cell, code: codeInternal}}},
		byID: map[string][]int{"": {0}},
	}
	j := &job{configuration: experiment.Configuration{Cell: cell, Cells: []experiment.Cell{cell}}, set: set, number: 1}
	if err := c.checkTargets(j); err != nil {
		return nil, err
	}
	if isHere(o.URL, o.System.Hostname) {
		// The server's GPUs are this machine's.
		if c.node, err = node.Observe(ctx, o.System); err != nil {
			o.Observer.Note(BenchName, "no GPU telemetry: "+err.Error())
		}
	}
	record := c.startJSON(j)
	record.Kind, record.VLLMVersion, record.Argv, record.Settings = BenchName, version, nil, nil
	record.Server = &result.Server{Version: version}
	if j.start, err = result.Create(o.ResultsDir, record, result.CreateOptions{JobID: o.System.PBS().JobID}); err != nil {
		return nil, err
	}
	defer j.start.Abandon()
	o.Observer.Note(BenchName, "results in "+j.start.Dir())
	if srv.telemetry, err = c.startTelemetry(ctx, j); err != nil {
		return nil, err
	}
	c.runLevels(ctx, j, srv)
	if err := srv.telemetry.close(); err != nil {
		o.Observer.Note(BenchName, "telemetry: "+err.Error())
	}
	if ctx.Err() != nil {
		c.finishInterrupted(ctx, j, "")
	}
	c.finish(j)
	c.outcome.Code = exitCode(c.outcome.Cells)
	return c.outcome, nil
}

// benchConfig names a server in a table: host and port.
func benchConfig(address string) string {
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		return u.Host
	}
	return address
}

// isHere tells whether the server of a URL runs on this machine, as far as can be
// told without asking a name server.
func isHere(address, hostname string) bool {
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	host := u.Hostname()
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return strings.EqualFold(host, "localhost") || hostname != "" && strings.EqualFold(host, hostname)
	}
	if ip.IsLoopback() || ip.IsUnspecified() {
		return true
	}
	own, _ := net.InterfaceAddrs()
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == ip.Unmap()
	})
}

// TargetError says that the server to measure does not answer as one.
type TargetError struct {
	URL string
	Err error
}

func (e *TargetError) Error() string {
	return fmt.Sprintf("server at %s: %v; check --url, and whether the server is up", e.URL, e.Err)
}

func (e *TargetError) Unwrap() error { return e.Err }

const askTimeout = 30 * time.Second

// ask finds out what the server serves.
func (o BenchOptions) ask(ctx context.Context) (*server, string, error) {
	base := strings.TrimSuffix(strings.TrimRight(o.URL, "/"), "/v1")
	client := &http.Client{Transport: &http.Transport{Proxy: nil}, Timeout: askTimeout}
	defer client.CloseIdleConnections()
	get := func(path string, into any) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return err
		}
		if o.APIKey != "" {
			request.Header.Set("Authorization", "Bearer "+o.APIKey)
		}
		response, err := client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if err != nil {
			return err
		}
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s answers %s", path, response.Status)
		}
		return json.Unmarshal(body, into)
	}
	var models struct {
		Data []struct {
			ID          string `json:"id"`
			MaxModelLen int    `json:"max_model_len"`
		} `json:"data"`
	}
	if err := get("/v1/models", &models); err != nil && o.Model == "" {
		return nil, "", &TargetError{o.URL, fmt.Errorf("ask for its models: %w (--model NAME does without)", err)}
	}
	srv := &server{}
	name := o.Model
	for _, m := range models.Data {
		if name == "" || name == m.ID {
			name, srv.maxModelLen = m.ID, m.MaxModelLen
			break
		}
	}
	if name == "" {
		return nil, "", &TargetError{o.URL, errors.New("it serves no model")}
	}
	var version struct {
		Version string `json:"version"`
	}
	// Only vLLM has it; other servers are measured without.
	_ = get("/version", &version)
	srv.target = load.Target{BaseURL: base, Model: name, APIKey: o.APIKey, Features: load.FeaturesOf(version.Version), Endpoint: o.Endpoint}
	return srv, version.Version, nil
}
