package protocol_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"dsvmpools/shared/job"
	"dsvmpools/shared/protocol"
)

// An assignment with a field that this release does not know must not be started; the
// other items of the message are as they are.
func TestUnknownFieldsOfAssignments(t *testing.T) {
	t.Parallel()
	const body = `{"v":1,"items":[{"n":1,"assign":{"job":"a","attempt":1,"cpus":1,"container":{"image":"x"}}},` +
		`{"n":2,"assign":{"job":"b","attempt":1,"cpus":1,"source":{"repository":"r","commit":"c","later":"t"}}},` +
		`{"n":3,"assign":{"job":"c","attempt":1,"cpus":1,"secrets":{"A":"keyvault:v/s"}},"later":1},{"n":4,"cancel":{"target":1,"reason":"r"}}],"more":1}`
	w, err := protocol.DecodeWork([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, i := range w.Items {
		if i.Assign != nil {
			got = append(got, i.Assign.Job+":"+i.Assign.Unknown)
		}
	}
	if want := []string{"a:container", "b:later", "c:"}; !slices.Equal(got, want) || w.Items[3].Cancel == nil {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestFeaturesNeeded(t *testing.T) {
	t.Parallel()
	if got := protocol.FeaturesNeeded(protocol.Assignment{Command: []string{"x"}}); got != nil {
		t.Errorf("a plain one needs %v", got)
	}
	if got := protocol.FeaturesNeeded(protocol.Assignment{Room: 8}); !slices.Equal(got, []string{protocol.FeatureAhead}) {
		t.Errorf("one that waits for its turn needs %v", got)
	}
	needed := protocol.FeaturesNeeded(protocol.Assignment{Secrets: map[string]string{"A": "keyvault:v/s"}})
	if !slices.Equal(needed, []string{protocol.FeatureSecrets}) || !slices.Contains(protocol.Features(), needed[0]) {
		t.Errorf("secrets need %v", needed)
	}
	for script, want := range map[string]bool{"#!/bin/sh\necho": false, "#!/usr/bin/env python3\n1": true} {
		needed := protocol.FeaturesNeeded(protocol.Assignment{Script: script})
		if slices.Equal(needed, []string{protocol.FeatureScript}) != want || len(needed) > 1 {
			t.Errorf("%q needs %v", script, needed)
		}
	}
	if !slices.Contains(protocol.Features(), protocol.FeatureScript) {
		t.Error("agents of this release do not say that they know scripts")
	}
	needed = protocol.FeaturesNeeded(protocol.Assignment{Source: &job.Source{Tree: "tree:sha256:00"}})
	if !slices.Equal(needed, []string{protocol.FeatureTree}) || !slices.Contains(protocol.Features(), needed[0]) {
		t.Errorf("a tree needs %v", needed)
	}
	needed = protocol.FeaturesNeeded(protocol.Assignment{Session: &protocol.Session{Jupyter: protocol.JupyterHub}})
	if !slices.Equal(needed, []string{protocol.FeatureHub, protocol.FeatureSession}) || !slices.Contains(protocol.SessionFeatures(), needed[0]) {
		t.Errorf("a session with a hub needs %v", needed)
	}
	needed = protocol.FeaturesNeeded(protocol.Assignment{Session: &protocol.Session{Ways: []string{protocol.WayDirect}}})
	if !slices.Equal(needed, []string{protocol.FeatureSession, protocol.FeatureWays}) {
		t.Errorf("a session with another way than the relay needs %v", needed)
	}
	if needed = protocol.FeaturesNeeded(protocol.Assignment{Source: &job.Source{Repository: "r", Commit: "c"}}); needed != nil {
		t.Errorf("a repository needs %v", needed)
	}
}

func TestCommonVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		agent []int
		want  int
	}{{nil, 1}, {[]int{1}, 1}, {[]int{3, 1, 2}, 1}, {[]int{2, 3}, 0}} {
		got, ok := protocol.CommonVersion(c.agent)
		if got != c.want || ok != (c.want > 0) {
			t.Errorf("%v: got %d, %v, want %d", c.agent, got, ok, c.want)
		}
	}
	if text := protocol.ForeignVersions([]int{2, 3}); !strings.Contains(text, "versions 2, 3 of the messages, and this release version 1") {
		t.Errorf("got %s", text)
	}
}

// A pool of the first release passes over the stage of a node that boots, and what Ready
// says besides.
func TestTheFirstReleaseReadsTheseReports(t *testing.T) {
	t.Parallel()
	bodies, err := protocol.EncodeReport(protocol.Report{Pool: "p", VMID: "v", Items: []protocol.ReportItem{
		{Booting: &protocol.Booting{Stage: protocol.StageShare, Boot: "1", Name: "n"}},
		{Ready: &protocol.Ready{Name: "n", Boot: "1", Features: protocol.Features(), Versions: protocol.Versions()}}}})
	if err != nil || len(bodies) != 1 {
		t.Fatal(len(bodies), err)
	}
	var first struct { // as of v0.1.0
		V     int    `json:"v"`
		Pool  string `json:"pool"`
		Items []struct {
			Ready *struct {
				Name string `json:"name"`
				Boot string `json:"boot"`
			} `json:"ready"`
			Started, Finished, Holds, Leaving *struct{}
		} `json:"items"`
	}
	if err := json.Unmarshal(bodies[0], &first); err != nil {
		t.Fatal(err)
	}
	if i := first.Items; first.V != 1 || len(i) != 2 || i[0].Ready != nil || i[1].Ready == nil || i[1].Ready.Boot != "1" {
		t.Errorf("got %+v", first)
	}
}
