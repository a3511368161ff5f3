package deploy

import "testing"

func TestCodeOf(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"(AuthorizationFailed) The client does not": "AuthorizationFailed",
		`{"code": "DeploymentFailed", "details": [{"code":"Conflict","message":"{\"x\"}"},{"code": "QuotaExceeded"}]}`: "QuotaExceeded",
		"Code: InvalidTemplateDeployment\nMessage: x\nCode: MissingSubscriptionRegistration":                           "MissingSubscriptionRegistration",
		"ErrorCode:AuthorizationPermissionMismatch":                                                                    "AuthorizationPermissionMismatch",
		"nothing (at all)": "",
	} {
		if got := codeOf(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	uaa := permission{Actions: []string{"*/read", "Microsoft.Authorization/*"}}
	contributor := permission{Actions: []string{"*"}, NotActions: []string{"Microsoft.Authorization/*/Write"}}
	for _, tt := range []struct {
		p      permission
		action string
		want   bool
	}{
		{uaa, "Microsoft.Authorization/roleDefinitions/write", true}, {uaa, "Microsoft.Web/sites/write", false}, {uaa, "microsoft.web/sites/read", true},
		{contributor, "Microsoft.Authorization/roleAssignments/write", false}, {contributor, "Microsoft.Web/sites/write", true},
	} {
		if got := tt.p.gives(tt.action); got != tt.want {
			t.Errorf("%v gives %s: got %v", tt.p, tt.action, got)
		}
	}
}

func TestOlderThan(t *testing.T) {
	t.Parallel()
	for have, want := range map[string]bool{"2.59.9": true, "2.60.0": false, "2.91.0": false, "1.99.0": true, "3.0.0": false, "odd": false} {
		if got := olderThan(have, oldestAz); got != want {
			t.Errorf("%s: got %v", have, got)
		}
	}
}
