package handlers

import (
	"cmp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"dsvmpools/shared/doctor"
	"dsvmpools/shared/drive"
	"dsvmpools/shared/network"
	"dsvmpools/shared/relay"
	"dsvmpools/shared/relay/entities"
	"dsvmpools/shared/service"
	"dsvmpools/shared/sshca"
)

// Doors is what gives nodes and people their tokens for the relay; nil if the deployment has
// none. credential is the one for the resource manager. Nothing is sent.
func (s Settings) Doors(credential azcore.TokenCredential) (*relay.Doors, error) {
	if s.Relay == (relay.Namespace{}) {
		return nil, nil
	}
	made, err := entities.New(entities.Config{
		Subscription:  s.Subscription,
		ResourceGroup: cmp.Or(s.RelayGroup, s.ResourceGroup),
		Namespace:     s.Relay.Name(),
		Endpoint:      s.ResourceManager,
		Credential:    credential,
	})
	if err != nil {
		return nil, err
	}
	return &relay.Doors{Namespace: s.Relay, ListenKey: s.RelayListenKey, SendKey: s.RelaySendKey, Ensure: made.Ensure}, nil
}

// doors is how the owners of sessions come in; nil if the deployment has no relay or no key
// that signs certificates. own is the app's credential, arm the one for the resource manager.
// Nothing is sent.
func (s Settings) doors(own, arm azcore.TokenCredential) (*service.Doors, error) {
	at, err := s.Doors(arm)
	if err != nil || at == nil || s.SSHCA == "" {
		return nil, err
	}
	ca, err := s.authority(own)
	if err != nil {
		return nil, err
	}
	return service.NewDoors(ca, at)
}

// authority is what signs certificates for SSH: a key in a vault, or in a file.
func (s Settings) authority(own azcore.TokenCredential) (*sshca.Authority, error) {
	if strings.HasPrefix(s.SSHCA, "https://") {
		return sshca.OpenVault(sshca.Vault{URL: s.SSHCA, Credential: own})
	}
	return sshca.OpenFile(s.SSHCA)
}

// sessionNeeds is what the doctor looks at for interactive pools. Nothing is sent.
func (s Settings) sessionNeeds(own azcore.TokenCredential) (*doctor.Sessions, error) {
	needs := &doctor.Sessions{
		Relay:  s.Lookup("DSVM_RELAY"),
		Keys:   map[string]string{"DSVM_RELAY_LISTEN_KEY": s.RelayListenKey, "DSVM_RELAY_SEND_KEY": s.RelaySendKey},
		SSHCA:  s.SSHCA,
		SignIn: s.SignIn.Issuer != "" || s.SignIn.Platform,
	}
	if s.SSHCA == "" || needs.Relay == "" {
		return needs, nil
	}
	ca, err := s.authority(own)
	if err != nil {
		return nil, err
	}
	needs.PublicKey = ca.PublicKey
	return needs, nil
}

// doorPort is the port at which the doors of nodes listen, and the only one that is opened: that of
// agents in the cloud. On one machine each node takes one that is free.
const doorPort = 443

// lookAgain is when to look again at a change of the network: Azure takes some seconds.
const lookAgain = 3 * time.Second

// Network is what opens nodes to people beside the relay; nil if no setting says from where they
// come. credential is the one for the resource manager. Nothing is sent.
func (s Settings) Network(credential azcore.TokenCredential) (drive.Network, error) {
	if len(s.WaysFrom) == 0 {
		return nil, nil
	}
	port := doorPort
	if strings.HasPrefix(s.ResourceManager, "http:") {
		port = 0
	}
	return network.New(network.Config{
		Subscription:  s.Subscription,
		ResourceGroup: s.ResourceGroup,
		Region:        s.Location,
		Guard:         s.NetworkGuard,
		Subnet:        s.Subnet,
		From:          s.WaysFrom,
		DoorPort:      port,
		FrontPort:     s.BalancerPort,
		Again:         min(s.Timing.PollEvery, lookAgain),
		Endpoint:      s.ResourceManager,
		Credential:    credential,
	})
}
