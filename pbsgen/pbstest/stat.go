package pbstest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/glm46/glm46/pbsgen/pbs"
)

// Stat is qstat: without ids all jobs, -f in full, -F json, -x with history, -t with
// sub-jobs.
func (s *Server) Stat(c Call) Reply {
	var full, asJSON, history, subs bool
	var ids []string
	for i := 0; i < len(c.Args); i++ {
		switch arg := c.Args[i]; {
		case arg == "-F" && i+1 < len(c.Args):
			i++
			asJSON = c.Args[i] == "json"
		case strings.HasPrefix(arg, "-") && len(arg) > 1:
			full = full || strings.Contains(arg, "f")
			history = history || strings.Contains(arg, "x")
			subs = subs || strings.Contains(arg, "t")
		default:
			ids = append(ids, arg)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var reply Reply
	var found []*job
	for _, id := range ids {
		switch jobs := s.several(id); {
		case len(jobs) == 0:
			reply.Stderr += "qstat: Unknown Job Id " + id + "\n"
			reply.Exit = 153
		case jobs[0].ended() && !history:
			reply.Stderr += "qstat: " + jobs[0].id + " Job has finished, use -x or -H to obtain historical job information\n"
			reply.Exit = 35
		default:
			found = append(found, jobs...)
		}
	}
	if ids == nil {
		for _, j := range s.order {
			if (history || !j.ended()) && (subs || j.array == nil) {
				found = append(found, j)
			}
		}
	}
	switch {
	case full && asJSON:
		reply.Stdout = s.statJSON(found)
	case full:
		for _, j := range found {
			reply.Stdout += s.statText(j)
		}
	default:
		for _, j := range found {
			reply.Stdout += fmt.Sprintf("%-20s %-16s tester %s %s\n", j.id, j.name, j.state, j.queue)
		}
	}
	return reply
}

func (s *Server) statJSON(jobs []*job) string {
	document := map[string]any{"timestamp": time.Now().Unix(), "pbs_version": "23.06.06", "pbs_server": s.config.ServerName}
	if len(jobs) > 0 {
		list := map[string]any{}
		for _, j := range jobs {
			list[j.id] = s.attributes(j)
		}
		document["Jobs"] = list
	}
	text, err := json.MarshalIndent(document, "", "    ")
	if err != nil {
		panic(err) // strings and numbers only
	}
	return string(text) + "\n"
}

func (s *Server) attributes(j *job) map[string]any {
	resources := map[string]any{}
	for _, r := range j.request.Resources {
		resources[r.Name] = r.Value
	}
	if j.walltime > 0 {
		resources["walltime"] = pbs.FormatWalltime(j.walltime)
	}
	a := map[string]any{
		"Job_Name": j.name, "Job_Owner": "tester@" + hostname(), "job_state": j.state, "queue": j.queue, "Resource_List": resources,
		"substate": j.substate, "run_count": j.runCount,
	}
	if !j.started.IsZero() {
		a["stime"] = j.started.Format(time.ANSIC)
		a["exec_host"] = hostname() + "/0"
	}
	if j.run != nil {
		used := int(time.Since(j.started).Seconds() / s.config.Second.Seconds())
		a["resources_used"] = map[string]any{"walltime": pbs.FormatWalltime(time.Duration(used) * time.Second)}
	}
	if j.exit != nil {
		a["Exit_status"] = *j.exit
	}
	if j.comment != "" {
		a["comment"] = j.comment
	}
	if j.hold != "" {
		a["Hold_Types"] = j.hold
	}
	return a
}

func (s *Server) statText(j *job) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Job Id: %s\n    Job_Name = %s\n    job_state = %s\n    queue = %s\n", j.id, j.name, j.state, j.queue)
	if j.walltime > 0 {
		fmt.Fprintf(&b, "    Resource_List.walltime = %s\n", pbs.FormatWalltime(j.walltime))
	}
	if !j.started.IsZero() {
		fmt.Fprintf(&b, "    stime = %s\n", j.started.Format(time.ANSIC))
	}
	if j.exit != nil {
		fmt.Fprintf(&b, "    Exit_status = %d\n", *j.exit)
	}
	fmt.Fprintf(&b, "    run_count = %d\n\n", j.runCount)
	return b.String()
}
