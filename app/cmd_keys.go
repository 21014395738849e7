package main

import (
	"fmt"

	"comfyfleet/models"
)

type keysCmd struct {
	Create keyCreateCmd `cmd:"" help:"Create a key; it is shown once."`
	List   keyListCmd   `cmd:"" help:"List keys."`
	Revoke keyRevokeCmd `cmd:"" help:"Revoke a key at once."`
	Rotate keyRotateCmd `cmd:"" help:"Replace a key by a new one of the same scopes; the old one is revoked."`
}

type keyCreateCmd struct {
	Tenant  string `required:"" help:"Whose key it is."`
	Name    string `required:"" help:"What it is for."`
	Scopes  string `help:"Space or comma separated; all by default."`
	Expires string `help:"Life, e.g. 720h; for ever by default."`
}

func (c *keyCreateCmd) Run(s *session) error {
	return s.key("keys.create", keyArgs{Tenant: c.Tenant, Name: c.Name, Scopes: c.Scopes, Expires: c.Expires})
}

type keyListCmd struct {
	Tenant string `help:"Only this tenant's."`
}

func (c *keyListCmd) Run(s *session) error {
	var keys []models.APIKey
	if err := s.act("keys.list", keyArgs{Tenant: c.Tenant}, &keys); err != nil {
		return err
	}
	return s.show(keys, "PREFIX NAME SCOPES CREATED USED EXPIRES REVOKED", func(add func(...any)) {
		for _, k := range keys {
			add(k.Prefix, k.Name, k.Scopes, k.CreatedAt, k.LastUsedAt, k.ExpiresAt, k.RevokedAt)
		}
	})
}

type keyRevokeCmd struct {
	Key string `arg:"" help:"Its id or prefix."`
}

func (c *keyRevokeCmd) Run(s *session) error {
	var k models.APIKey
	if err := s.act("keys.revoke", keyArgs{ID: c.Key}, &k); err != nil {
		return err
	}
	return s.show(k, "", func(add func(...any)) { add("revoked", k.Prefix) })
}

type keyRotateCmd struct {
	Key string `arg:"" help:"The old key's id or prefix."`
}

func (c *keyRotateCmd) Run(s *session) error { return s.key("keys.rotate", keyArgs{ID: c.Key}) }

// key runs a verb that answers with a new key and prints it alone, so that a script can read it.
func (s *session) key(verb string, args keyArgs) error {
	var k newKey
	if err := s.act(verb, args, &k); err != nil {
		return err
	}
	if s.asJSON {
		return s.show(k, "", nil)
	}
	fmt.Fprintln(s.stderr, "The key is shown this once:")
	_, err := fmt.Fprintln(s.stdout, k.Key)
	return err
}
