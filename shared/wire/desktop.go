package wire

// DesktopRequest asks for the desktop of a session.
type DesktopRequest struct {
	PublicKey string `json:"publicKey"` // of the client, X25519 as base64: the password is sealed to it
}

// SessionDesktop is what a client needs for one connection to the desktop of a session.
type SessionDesktop struct {
	User   string `json:"user"`   // to sign in as
	Sealed string `json:"sealed"` // the password, see package seal; "" = its node is just making it: ask again
	Ticket string `json:"ticket"` // for the door, in the header Dsvm-Ticket; good once, for a minute
	Doors  []Door `json:"doors"`  // ways to the desktop, the best first
	// Port is where the desktop is on localhost of the session's node, for who forwards it by SSH;
	// 0 = it comes by Doors.
	Port int `json:"port,omitempty"`
}
