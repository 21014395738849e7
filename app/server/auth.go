package server

import (
	"context"
	"encoding/base64"
	"strings"

	"github.com/gofiber/fiber/v2"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

// Authenticator tells whose a key is; *auth.Keys does.
type Authenticator interface {
	Authenticate(ctx context.Context, key, ip string) (auth.Principal, error)
}

// Auth lets requests through whose key has scope, within limit. It looks at headers only: a request that ends here costs
// nobody its body.
func (s *Server) Auth(keys Authenticator, scope models.Scope, limit Limit) fiber.Handler {
	return func(c *fiber.Ctx) error {
		if err := s.Admit(c, keys, scope, limit); err != nil {
			return err
		}
		return c.Next()
	}
}

// Admit is Auth for a handler that decides by itself whether it needs a key.
func (s *Server) Admit(c *fiber.Ctx, keys Authenticator, scope models.Scope, limit Limit) error {
	p, err := identify(c.UserContext(), keys, candidates(c), ClientIP(c))
	if err != nil {
		return err
	}
	if r := requestOf(c); r != nil {
		r.principal = &p
	}
	if err := p.Require(scope); err != nil {
		return err
	}
	return s.limit(c, p, limit)
}

// PrincipalOf is who a request behind Auth comes from.
func PrincipalOf(c *fiber.Ctx) auth.Principal {
	if r := requestOf(c); r != nil && r.principal != nil {
		return *r.principal
	}
	return auth.Principal{}
}

// Recheck is Auth once more, for streams that outlive a revocation: nil while the key still has scope.
func Recheck(c *fiber.Ctx, keys Authenticator, scope models.Scope) func(ctx context.Context) error {
	tries, ip := candidates(c), ClientIP(c)
	return func(ctx context.Context) error {
		p, err := identify(ctx, keys, tries, ip)
		if err != nil {
			return err
		}
		return p.Require(scope)
	}
}

// identify takes the first candidate that is a key.
func identify(ctx context.Context, keys Authenticator, candidates []string, ip string) (p auth.Principal, err error) {
	err = models.Errorf(models.CodeUnauth, "missing_key", "send an API key: Authorization: Bearer <key>, or X-API-Key: <key>")
	for _, key := range candidates {
		if p, err = keys.Authenticate(ctx, key, ip); models.ErrorCode(err) != models.CodeUnauth {
			return p, err
		}
	}
	return p, err
}

// candidates are what the request offers as a key. HTTP Basic carries it as user name or as password, so that a URL with
// the key in it works in any client.
func candidates(c *fiber.Ctx) []string {
	scheme, value, _ := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	value = strings.TrimSpace(value)
	switch {
	case value == "":
	case strings.EqualFold(scheme, "Bearer"):
		return []string{value}
	case strings.EqualFold(scheme, "Basic"):
		plain, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			break
		}
		user, password, _ := strings.Cut(string(plain), ":")
		var out []string
		for _, s := range []string{user, password} {
			if s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	if key := c.Get("X-Api-Key"); key != "" {
		return []string{key}
	}
	return nil
}
