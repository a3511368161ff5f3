package handlers

import (
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"dsvmpools/shared/relay"
	"dsvmpools/shared/relay/entities"
)

// Doors is what gives nodes and people their tokens for the relay; nil if the deployment has
// none. credential is the one for the resource manager. Nothing is sent.
func (s Settings) Doors(credential azcore.TokenCredential) (*relay.Doors, error) {
	if s.Relay == (relay.Namespace{}) {
		return nil, nil
	}
	made, err := entities.New(entities.Config{
		Subscription:  s.Subscription,
		ResourceGroup: s.ResourceGroup,
		Namespace:     s.Relay.Name(),
		Endpoint:      s.ResourceManager,
		Credential:    credential,
	})
	if err != nil {
		return nil, err
	}
	return &relay.Doors{Namespace: s.Relay, ListenKey: s.RelayListenKey, SendKey: s.RelaySendKey, Ensure: made.Ensure}, nil
}
