package wire

import "dsvmpools/shared/caller"

// Me is who calls, as the API has found out.
type Me struct {
	Kind  string                 `json:"kind"`            // person | program: one that has the function key
	ID    string                 `json:"id,omitempty"`    // object id of a person in the directory
	Login string                 `json:"login,omitempty"` // what the directory calls the person
	Name  string                 `json:"name,omitempty"`  // of the account: the user of the person's jobs; missing for readers
	UID   int                    `json:"uid,omitempty"`   // of the account on nodes
	Teams map[string]caller.Role `json:"teams"`           // roles by team; * = every team
}

// NewMe makes the answer.
func NewMe(c caller.Caller) Me {
	m := Me{Kind: "program", ID: c.ID, Login: c.Login, Name: c.Name, UID: c.UID, Teams: c.Teams}
	if c.IsPerson() {
		m.Kind = "person"
	}
	if m.Teams == nil {
		m.Teams = map[string]caller.Role{}
	}
	return m
}

// The two halves of the token of a page that has signed in by a key of `dsvm up`.
const (
	PageCookie = "dsvm"      // cookie with the claims
	PageHeader = "Dsvm-Page" // header with the signature
)

// SignIn is where and how people sign in, for the command line. It is no secret.
type SignIn struct {
	Issuer   string `json:"issuer"`   // whose discovery document leads on
	ClientID string `json:"clientId"` // of the application that signs people in
	Scope    string `json:"scope"`    // that a token for the API needs
}
