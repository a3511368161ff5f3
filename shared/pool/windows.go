package pool

import (
	"dsvmpools/shared/document"
	"dsvmpools/shared/protocol"
)

// Systems of the nodes of a pool.
const (
	Linux   = "linux"
	Windows = "windows"
)

// Licenses of Windows that somebody has already, and does not pay again for.
const (
	LicenseServer = "Windows_Server"
	LicenseClient = "Windows_Client"
)

// validateOS checks what depends on the system of the nodes.
func (s *Spec) validateOS() error {
	if s.OS != Windows {
		switch {
		case s.License != "":
			return invalid("license", "`license` is for pools of `os: windows`; leave it out")
		case s.Image.IsWindows():
			return invalid("image", "`image` is one of Windows, and the nodes of the pool run Linux; name another, or write `os: windows`")
		}
		return nil
	}
	of := s.Sessions
	switch {
	case s.License != "" && s.License != LicenseServer && s.License != LicenseClient:
		return invalid("license", "`license` is %q; write %s or %s if you have that license, or leave it out",
			document.Clip(s.License), LicenseServer, LicenseClient)
	case s.Image.ID == "" && !s.Image.IsWindows():
		return invalid("image", "`image` is none of Windows; write %s, another image of Windows, or the resource ID of one", DefaultWindowsImage)
	case s.Setup != "":
		return invalid("setup", "`setup` is a script for Linux, and not possible with `os: windows`; "+
			"put what it installs into an image of your own")
	case len(s.Shares) > 0:
		return invalid("share", "`share` is not supported yet with `os: windows`; leave it out")
	case of == nil:
		return nil // said by validateSessions
	case of.Desktop != DesktopRDP:
		return invalid("sessions.desktop", "`sessions.desktop` is off, and by RDP alone people come to Windows; leave it out")
	case of.Jupyter != protocol.JupyterOff:
		return invalid("sessions.jupyter", "`sessions.jupyter` is not supported with `os: windows`; "+
			"leave it out, and start JupyterLab on the desktop")
	case of.Sudo:
		return invalid("sessions.sudo", "`sessions.sudo` is for Linux; leave it out")
	case of.Probe != "":
		return invalid("sessions.probe", "`sessions.probe` is a script for Linux; leave it out")
	}
	return nil
}
