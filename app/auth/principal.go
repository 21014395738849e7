package auth

import (
	"slices"
	"strings"

	"comfyfleet/models"
)

// Principal is who a request comes from: a key of a tenant.
type Principal struct {
	Tenant models.Tenant
	Key    models.APIKey
}

// Has reports whether the key may do what scope names.
func (p Principal) Has(scope models.Scope) bool {
	return slices.Contains(strings.Fields(p.Key.Scopes), string(scope))
}

// Require answers nil when the key has scope, else CodeForbidden with what is missing.
func (p Principal) Require(scope models.Scope) error {
	if p.Has(scope) {
		return nil
	}
	return models.Errorf(models.CodeForbidden, "missing_scope", "this API key lacks the scope %s", scope)
}

// ParseScopes reads scopes separated by spaces or commas into the stored form: each once, in the order of
// models.AllScopes. "" means all of them; an unknown one is CodeInvalid.
func ParseScopes(s string) (string, error) {
	asked := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' })
	if len(asked) == 0 {
		return JoinScopes(models.AllScopes), nil
	}
	for _, a := range asked {
		if !slices.Contains(models.AllScopes, models.Scope(a)) {
			return "", models.FieldErrorf(models.CodeInvalid, "unknown_scope", "scopes", "no scope %q; there are: %s", a, JoinScopes(models.AllScopes))
		}
	}
	var kept []models.Scope
	for _, scope := range models.AllScopes {
		if slices.Contains(asked, string(scope)) {
			kept = append(kept, scope)
		}
	}
	return JoinScopes(kept), nil
}

// JoinScopes is the stored form of scopes.
func JoinScopes(scopes []models.Scope) string {
	words := make([]string, len(scopes))
	for i, s := range scopes {
		words[i] = string(s)
	}
	return strings.Join(words, " ")
}
