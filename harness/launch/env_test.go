package launch

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/glm46/glm46/mockvllm/vllm"
)

func asMap(env []string) map[string]string {
	out := map[string]string{}
	for _, kv := range env {
		name, value, _ := strings.Cut(kv, "=")
		out[name] = value
	}
	return out
}

func TestServerEnv(t *testing.T) {
	base := []string{"PATH=/bin", "OMP_NUM_THREADS=96", "CUDA_VISIBLE_DEVICES=GPU-1,GPU-2", "no_proxy=example.org", "PYTHONNOUSERSITE=0",
		"A=1", "A=2", "=odd", "novalue", tokenVariable + "=old", "VLLM_HOST_IP=10.0.0.1", "XDG_CACHE_HOME=/mine"}
	env, changes := ServerEnv(base, EnvOptions{CUDAVisible: "0,1", CUDAVisibleSet: true, Offline: true, CacheDir: "/local/c", TempDir: "/tmp/x",
		Host: "node7", Extra: []string{"NCCL_DEBUG=INFO", "OMP_NUM_THREADS=2"}})
	got := asMap(env)
	for name, want := range map[string]string{
		"PATH": "/bin", "A": "2", "CUDA_VISIBLE_DEVICES": "0,1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1",
		"no_proxy": "example.org,localhost,127.0.0.1,node7", "NO_PROXY": "localhost,127.0.0.1,node7",
		"OMP_NUM_THREADS":  "2",        // asked for
		"PYTHONNOUSERSITE": "0",        // the user's own
		"VLLM_HOST_IP":     "10.0.0.1", // the user's own
		"XDG_CACHE_HOME":   "/mine",    // the user's own
		"TRITON_CACHE_DIR": "/local/c/triton", "TMPDIR": "/tmp/x", "VLLM_RPC_BASE_PATH": "/tmp/x", "NCCL_DEBUG": "INFO",
		"VLLM_ENGINE_READY_TIMEOUT_S": "3600",
	} {
		if got[name] != want {
			t.Errorf("%s: want %q, got %q", name, want, got[name])
		}
	}
	if len(got) != len(env) {
		t.Errorf("a variable stands twice in %q", env)
	}
	for _, never := range []string{tokenVariable, "", "novalue"} {
		if _, ok := got[never]; ok {
			t.Errorf("%q came through", never)
		}
	}
	for _, c := range changes {
		if c.Why == "" {
			t.Errorf("%s is changed without a reason", c.Name)
		}
	}
	plain, _ := ServerEnv([]string{"CUDA_VISIBLE_DEVICES=GPU-1"}, EnvOptions{})
	if m := asMap(plain); m["CUDA_VISIBLE_DEVICES"] != "GPU-1" || m["OMP_NUM_THREADS"] != "1" || m["TMPDIR"] != "" {
		t.Errorf("%q", plain)
	}
	again, changes := ServerEnv(plain, EnvOptions{})
	if !slices.Equal(plain, again) || len(changes) != 0 {
		t.Errorf("a second time changes %v", changes)
	}
}

func TestRecordsHoldNoSecrets(t *testing.T) {
	secret := "hunter2"
	env := []string{"HF_TOKEN=" + secret, "VLLM_API_KEY=" + secret, "PBS_JOBCOOKIE=" + secret, "HF_HUB_TOKEN_PATH=" + secret,
		"http_proxy=http://user:" + secret + "@proxy:3128", "VLLM_X_PASSWORD=" + secret, "AWS_SECRET_ACCESS_KEY=" + secret, "MY_PRIVATE=" + secret,
		"https_proxy=user:" + secret + "@proxy://x", "NCCL_DEBUG=INFO", "MAX_TOKENS=512", "MTP_NUM_TOKENS=2", "PATH=/bin", "HF_EMPTY_TOKEN=", "VLLM_BAD=\xff",
		"LOADEDMODULES=cuda/12.8:nccl/2.27", "_LMFILES_=/apps/m/cuda/12.8:/apps/m/nccl/2.27", "LMOD_SYSTEM_NAME=gpu", "RTYPE=rt_HF", "__LMOD_REF_COUNT_PATH=/bin:1"}
	got := RecordEnv(env)
	for name, value := range got {
		if strings.Contains(value, secret) {
			t.Errorf("%s shows it: %q", name, value)
		}
	}
	for name, want := range map[string]string{"NCCL_DEBUG": "INFO", "MAX_TOKENS": "512", "MTP_NUM_TOKENS": "2", "PATH": "/bin", "HF_TOKEN": redacted, "HF_EMPTY_TOKEN": "", "VLLM_BAD": "?",
		"LOADEDMODULES": "cuda/12.8:nccl/2.27", "_LMFILES_": "/apps/m/cuda/12.8:/apps/m/nccl/2.27", "LMOD_SYSTEM_NAME": "gpu", "RTYPE": "rt_HF"} {
		if got[name] != want {
			t.Errorf("%s: want %q, got %q", name, want, got[name])
		}
	}
	for _, unknown := range []string{"AWS_SECRET_ACCESS_KEY", "MY_PRIVATE"} {
		if _, ok := got[unknown]; ok {
			t.Errorf("%s is nobody's business", unknown)
		}
	}
	for _, line := range DescribeChanges([]EnvChange{{"VLLM_API_KEY", secret, "asked for"}}) {
		if strings.Contains(line, secret) {
			t.Error(line)
		}
	}
	argv := []string{"vllm", "serve", "m", "--api-key", secret, secret, "--port", "8000", "--api_key=" + secret, "--hf-token", secret, "--api-key"}
	before := slices.Clone(argv)
	shown := DisplayArgv(argv)
	if strings.Contains(strings.Join(shown, " "), secret) {
		t.Errorf("%q", shown)
	}
	if !slices.Equal(argv, before) {
		t.Error("the real arguments changed")
	}
	if shown[7] != "8000" || shown[2] != "m" || shown[3] != "--api-key" {
		t.Errorf("%q", shown)
	}
}

// The class and the cause of a failed start come from the first error of the
// log, not from its last line.
func TestCauseFromTheLog(t *testing.T) {
	log := strings.Join([]string{
		"(APIServer pid=1) INFO 11-24 09:18:38 [api_server.py:1] vLLM API server version 0.11.1",
		"(Worker_TP3 pid=9) ERROR 11-24 09:19:38 [multiproc_executor.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 3 has a total capacity of 139.81 GiB of which 1.10 GiB is free.",
		"(EngineCore_DP0 pid=5) ERROR 11-24 09:19:39 [core.py:1] EngineCore failed to start.",
		"(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore_DP0': 1}",
	}, "\n") + "\n"
	file := filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.WriteFile(file, []byte(log), 0o666))
	p, port, _ := startFake(t, "print="+file+" exit=1")
	_, err := p.WaitReady(t.Context(), ready(port, "m"))
	var f *FailedStart
	require.ErrorAs(t, err, &f)
	if f.Class != vllm.ClassOOMLoad || len(f.Lines) == 0 || !strings.Contains(f.Lines[0], "Tried to allocate 2.00 GiB") {
		t.Errorf("got class %s, lines %q", f.Class, f.Lines)
	}
	if f.Refused() {
		t.Error("no memory is no refusal")
	}
}

func TestUniqueName(t *testing.T) {
	a, err := UniqueName("GLM-4.6")
	require.NoError(t, err)
	b, err := UniqueName("GLM-4.6")
	require.NoError(t, err)
	if a == b || !strings.HasPrefix(a, "GLM-4.6-") {
		t.Errorf("%s %s", a, b)
	}
}
