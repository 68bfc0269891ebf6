package node

// Info is the node, for the record.
type Info struct {
	Hostname string `json:"hostname"`
	Kernel   string `json:"kernel,omitempty"`
	BootID   string `json:"boot_id,omitempty"`
	CPUModel string `json:"cpu_model,omitempty"`
	// CPUs counts the processors this process may use; CPUQuota is the cgroup's
	// limit in CPUs, 0 for none.
	CPUs     int     `json:"cpus"`
	CPUQuota float64 `json:"cpu_quota,omitempty"`
	// MemTotalBytes and MemAvailableBytes are the node's, MemLimitBytes is the
	// cgroup's, 0 for none.
	MemTotalBytes     uint64 `json:"mem_total_bytes,omitempty"`
	MemAvailableBytes uint64 `json:"mem_available_bytes,omitempty"`
	MemLimitBytes     uint64 `json:"mem_limit_bytes,omitempty"`
	OMPNumThreads     string `json:"omp_num_threads,omitempty"`
	CUDAVisible       string `json:"cuda_visible_devices,omitempty"`
	// Warnings are the checks that did not pass without stopping the run.
	Warnings []string `json:"warnings,omitempty"`
}
