package launch

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"sort"
	"strings"
)

// EnvOptions are what [ServerEnv] needs to know of the run.
type EnvOptions struct {
	// CUDAVisible are the ordinals that the server may use ("0,1,2"); Set says
	// that the variable is to be set at all (never for a mock).
	CUDAVisible    string
	CUDAVisibleSet bool
	// Offline forbids the hub: the model is a folder on disk.
	Offline bool
	// CacheDir is a node-local folder for compile caches, one per job: shared
	// ones get corrupted. Empty: the caches stay where they are.
	CacheDir string
	// TempDir is a short node-local path; empty: TMPDIR stays.
	TempDir string
	// Host is this node's name, for no_proxy.
	Host string
	// Extra wins over everything, in order ("NAME=VALUE").
	Extra []string
}

// EnvChange is a variable that the server gets otherwise than we have it.
type EnvChange struct{ Name, Value, Why string }

// ServerEnv makes the server's environment from ours, and says what it changed
// and why. A variable that the user set for the server stays, unless it is known
// to break it.
//
// Source: docs/node.md, environment of the server.
func ServerEnv(base []string, o EnvOptions) (env []string, changes []EnvChange) {
	vars := map[string]string{}
	var order []string
	set := func(name, value string) {
		if _, ok := vars[name]; !ok {
			order = append(order, name)
		}
		vars[name] = value
	}
	for _, kv := range base {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" || name == tokenVariable {
			continue
		}
		set(name, value)
	}
	force := func(name, value, why string) {
		if old, ok := vars[name]; ok && old == value {
			return
		}
		set(name, value)
		changes = append(changes, EnvChange{name, value, why})
	}
	deflt := func(name, value, why string) {
		if _, ok := vars[name]; !ok {
			force(name, value, why)
		}
	}
	if o.CUDAVisibleSet {
		force("CUDA_VISIBLE_DEVICES", o.CUDAVisible, "ordinals: vLLM before 0.24 fails on the UUIDs that PBS sets")
	}
	force("OMP_NUM_THREADS", "1", "PBS sets it to ncpus, which gives every worker that many threads")
	deflt("VLLM_ENGINE_READY_TIMEOUT_S", "3600", "loading and compiling may take longer than the default")
	deflt("VLLM_NO_USAGE_STATS", "1", "no outbound call")
	deflt("PYTHONNOUSERSITE", "1", "no stray packages from the home directory")
	deflt("VLLM_HOST_IP", "127.0.0.1", "one node: other interfaces and names may not work")
	deflt("PYTHONUNBUFFERED", "1", "the log shows the phase as it is")
	if o.Offline {
		force("HF_HUB_OFFLINE", "1", "the model is on disk; a node without a network hangs on the hub")
		force("TRANSFORMERS_OFFLINE", "1", "the same")
	}
	if o.CacheDir != "" {
		why := "node-local and this job's own: home is small and shared caches get corrupted"
		for _, c := range []struct{ name, sub string }{
			{"VLLM_CACHE_ROOT", "vllm"}, {"TRITON_CACHE_DIR", "triton"}, {"TORCHINDUCTOR_CACHE_DIR", "inductor"},
			{"XDG_CACHE_HOME", "xdg-cache"}, {"XDG_CONFIG_HOME", "xdg-config"}, {"FLASHINFER_WORKSPACE_BASE", "flashinfer"},
		} {
			deflt(c.name, filepath.Join(o.CacheDir, c.sub), why)
		}
	}
	if o.TempDir != "" {
		force("TMPDIR", o.TempDir, "short and node-local: unix socket paths end at 107 bytes")
		force("VLLM_RPC_BASE_PATH", o.TempDir, "the same")
	}
	for _, name := range []string{"no_proxy", "NO_PROXY"} {
		value := vars[name]
		for _, host := range []string{"localhost", "127.0.0.1", o.Host} {
			if host != "" && !slices.Contains(splitList(value), host) {
				value = strings.Trim(value+","+host, ",")
			}
		}
		force(name, value, "a proxy for localhost makes a healthy server look dead")
	}
	for _, kv := range o.Extra {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" {
			force(name, value, "asked for")
		}
	}
	for _, name := range order {
		env = append(env, name+"="+vars[name])
	}
	return env, changes
}

func splitList(s string) []string {
	var out []string
	for p := range strings.SplitSeq(s, ",") {
		if p = strings.TrimSpace(p); p != "" {
			out = append(out, p)
		}
	}
	return out
}

// redacted stands for a secret in records.
const redacted = "[removed]"

// recorded are the beginnings of names of variables that explain a result; the
// rest of an environment is nobody's business.
var recorded = []string{"CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "UCX_", "VLLM_", "TORCH", "PYTORCH_", "TRITON_", "FLASHINFER_",
	"HF_", "TRANSFORMERS_", "OMP_", "MKL_", "KMP_", "GOMP_", "PBS_", "GLM46_", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PYTHON",
	"VIRTUAL_ENV", "CONDA_", "APPTAINER", "SINGULARITY", "ENROOT_", "LD_", "PATH", "TMPDIR", "NCPUS", "MALLOC_",
	// environment modules and Lmod: what is loaded, from which files
	"LOADEDMODULES", "_LMFILES_", "MODULEPATH", "LMOD_SYSTEM_", "LMOD_FAMILY_", "EBROOTCUDA", "EBVERSIONCUDA",
	// sites' own job variables (ABCI's resource type), and what a container sets inside
	"RTYPE", "CONTAINER_",
	"http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
	// the job interface
	"EXP_NAME", "ENFORCE_EAGER", "ENABLE_", "CONTEXT_PARALLEL_SIZE", "MAX_MODEL_LEN", "KV_CACHE_DTYPE", "MTP_", "SPECULATIVE_MODEL",
	"DATASET_TYPE", "NUM_SAMPLES", "MAX_TOKENS", "GPU_MEMORY_UTILIZATION", "SWAP_SPACE", "TENSOR_PARALLEL_SIZE", "DTYPE"}

// secretWords mark variables whose value is never recorded.
var secretWords = []string{"TOKEN", "SECRET", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "COOKIE", "API_KEY", "APIKEY", "ACCESS_KEY", "PRIVATE_KEY", "AUTH"}

// RecordEnv picks from an environment what explains a result, with secrets
// replaced: values of variables named like secrets, and passwords in URLs.
func RecordEnv(environ []string) map[string]string {
	out := map[string]string{}
	for _, kv := range environ {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || !slices.ContainsFunc(recorded, func(p string) bool { return strings.HasPrefix(name, p) }) {
			continue
		}
		out[name] = redactValue(name, value)
	}
	return out
}

func redactValue(name, value string) string {
	up := strings.ToUpper(name)
	for _, w := range secretWords {
		// MTP_NUM_TOKENS and MAX_TOKENS count tokens.
		if strings.Contains(up, w) && up != "MAX_TOKENS" && up != "MTP_NUM_TOKENS" {
			if value == "" {
				return ""
			}
			return redacted
		}
	}
	if strings.Contains(value, "@") && strings.Contains(value, "://") {
		if u, err := url.Parse(value); err == nil && u.User != nil {
			u.User = url.User("removed")
			return u.String()
		}
		return redacted
	}
	return strings.ToValidUTF8(value, "?")
}

// DescribeChanges gives one line a change, sorted, for the log.
func DescribeChanges(changes []EnvChange) []string {
	var out []string
	for _, c := range changes {
		out = append(out, fmt.Sprintf("%s=%s (%s)", c.Name, redactValue(c.Name, c.Value), c.Why))
	}
	sort.Strings(out)
	return out
}
