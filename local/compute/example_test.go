//go:build unix

package compute_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"dsvmpools/local/compute"
)

// A resource group that answers as the resource manager does. A scale set without
// instances starts no process.
func ExampleStart() {
	dir, err := os.MkdirTemp("", "compute")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	s, err := compute.Start(compute.Config{
		Addr:           "127.0.0.1:0",
		Path:           filepath.Join(dir, "compute.db"),
		Dir:            dir,
		Token:          "secret",
		SubscriptionID: "sub",
		ResourceGroup:  "group",
		Location:       "westeurope",
		Supervisor:     []string{"/bin/false"},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	const set = "/subscriptions/sub/resourceGroups/group/providers/Microsoft.Compute/virtualMachineScaleSets/cpu"
	for _, token := range []string{"wrong", "secret"} {
		r, err := http.NewRequest(http.MethodGet, s.URL()+set+"?api-version=2024-07-01", nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		r.Header.Set("Authorization", "Bearer "+token)
		reply, err := http.DefaultClient.Do(r)
		if err != nil {
			fmt.Println(err)
			return
		}
		reply.Body.Close()
		fmt.Println(reply.StatusCode, reply.Header.Get("x-ms-error-code"))
	}
	// Output:
	// 401 InvalidAuthenticationToken
	// 404 ResourceNotFound
}
