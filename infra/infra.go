// Package infra embeds the template of a deployment and the one of its nodes' custom data,
// so that one binary is complete. It compiles nothing and calls nobody; the rest of the
// folder is for those who read or change the templates.
package infra

import (
	_ "embed"
	"encoding/json"
	"maps"
	"slices"
)

// NodeTemplate is the template of the nodes' custom data, which boot.CloudInit renders.
//
//go:embed cloud-init/node.yaml.tmpl
var NodeTemplate string

// Template is the compiled template of a whole deployment at the scope of a
// subscription; its parameters are explained in it and in README.md.
//
//go:embed main.json
var Template []byte

// ofHost are the settings that the template sets for the Functions host and the platform,
// and those that depend on the app's own address.
var ofHost = []string{
	"APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
	"APPLICATIONINSIGHTS_CONNECTION_STRING",
	"AZURE_CLIENT_ID",
	"AZURE_TOKEN_CREDENTIALS",
	"AzureFunctionsWebHost__hostid",
	"AzureWebJobsDisableHomepage",
	"AzureWebJobsStorage__accountName",
	"AzureWebJobsStorage__clientId",
	"AzureWebJobsStorage__credential",
	"DSVM_PUBLIC_URL",
	"MOUNT_KEY",
	"SHARE_PATH",
}

// Settings returns the names of all settings of the app that the template sets itself, in
// their order. What else an app has, somebody has added.
func Settings() []string {
	var template struct {
		Resources []struct {
			Name       string
			Properties struct {
				Parameters struct {
					Settings struct{ Value map[string]json.RawMessage }
				}
			}
		}
	}
	if err := json.Unmarshal(Template, &template); err != nil {
		panic(err) // it is a file of this package, which a test reads
	}
	for _, module := range template.Resources {
		if module.Name == "functions" {
			names := append(slices.Collect(maps.Keys(module.Properties.Parameters.Settings.Value)), ofHost...)
			slices.Sort(names)
			return names
		}
	}
	return nil
}
