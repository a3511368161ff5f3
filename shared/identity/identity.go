// Package identity gives a program the credential of its own identity in Azure: the
// function app and the agents of nodes reach Service Bus, tables, the vault and the
// resource manager with it. On a machine of Azure it is the managed identity and nothing
// else: a program never acts there as the person who last ran `az login`.
//
// It never reads a secret, keeps no token of its own, and sends nothing before a token is
// asked for.
package identity

import (
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"dsvmpools/shared/fault"
)

// Settings of the environment. The first three are those of the Azure SDKs; App Service and
// Functions set the last one for an app that has an identity.
const (
	ClientID         = "AZURE_CLIENT_ID"         // which identity, where the machine has several
	TokenCredentials = "AZURE_TOKEN_CREDENTIALS" //nolint:gosec // the name of a setting
	endpoint         = "IDENTITY_ENDPOINT"
)

// managed is the value of AZURE_TOKEN_CREDENTIALS that asks for the managed identity.
const managed = "ManagedIdentityCredential"

// New returns the credential of the program. OnAzure says that it runs on a machine with a
// managed identity; the environment may say so as well, by AZURE_TOKEN_CREDENTIALS or as
// the Functions host does. The credential is the managed identity alone then, the one of
// AZURE_CLIENT_ID if that is set: without it, a machine that got a second identity, for
// example by a policy, answers every request for a token with an error. Elsewhere it is the
// chain of the Azure SDK, which ends with the person who ran `az login`.
//
// Errors are *fault.Error with code Invalid.
func New(getenv func(string) string, onAzure bool) (azcore.TokenCredential, error) {
	if onAzure || getenv(endpoint) != "" || strings.EqualFold(getenv(TokenCredentials), managed) {
		return newManaged(getenv(ClientID), nil)
	}
	chain, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return nil, &fault.Error{Code: fault.Invalid, Field: TokenCredentials,
			Message: "no credential for Azure can be made; run `az login`, or correct the setting " + TokenCredentials, Err: err}
	}
	return chain, nil
}

func newManaged(clientID string, options *azidentity.ManagedIdentityCredentialOptions) (azcore.TokenCredential, error) {
	if options == nil {
		options = &azidentity.ManagedIdentityCredentialOptions{}
	}
	if clientID != "" {
		options.ID = azidentity.ClientID(clientID)
	}
	credential, err := azidentity.NewManagedIdentityCredential(options)
	if err != nil {
		return nil, &fault.Error{Code: fault.Invalid, Field: ClientID,
			Message: "the managed identity cannot be used; set " + ClientID + " to the client id of a user-assigned identity", Err: err}
	}
	return credential, nil
}
