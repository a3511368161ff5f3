package client_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"dsvmpools/shared/client"
)

// A program submits a job under an id of its own, so that it may safely send it again,
// and asks for the job until it has ended.
func Example() {
	states := []string{"queued", "running", "succeeded"}
	instance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusAccepted)
		}
		fmt.Fprintf(w, `{"id":"nightly-42","pool":"cpu","state":%q,"attempts":[]}`, states[0])
		states = states[1:]
	}))
	defer instance.Close()

	ctx := context.Background()
	c, err := client.New(instance.URL, "the key of the function app")
	if err != nil {
		fmt.Println(err)
		return
	}
	job, err := c.Submit(ctx, "nightly-42", []byte(`{"pool":"cpu","command":["python","train.py"]}`))
	for err == nil && !job.State.Final() {
		fmt.Println(job.ID, job.State)
		job, err = c.Job(ctx, job.ID)
	}
	fmt.Println(job.ID, job.State, err)
	// Output:
	// nightly-42 queued
	// nightly-42 running
	// nightly-42 succeeded <nil>
}
