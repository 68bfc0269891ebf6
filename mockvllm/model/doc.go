// Package model says how large and how fast a model is on its hardware: KV
// capacity, start-up, and the duration of an engine step.
//
// All numbers are data ([Profile], JSON) and come with unit and source; the
// formulas are here. [GLM46H200] is the built-in profile: GLM-4.6 in bf16 on
// eight H200, tensor parallel 8. Read profile.go, then step.go.
//
// The package is pure: no clock, file or random source; reading a profile from
// a file is the caller's work.
//
// Source of formulas and numbers: docs/timing-model.md.
package model
