package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

// secretsFile receives the secrets of a first start that has no terminal to show them on.
const secretsFile = "first-secrets"

// secret is something made at the first start that is shown once.
type secret struct{ name, value string }

func (a *admin) ensureDefaultTenant(ctx context.Context) error {
	_, err := a.store.TenantByName(ctx, models.DefaultTenant)
	if models.ErrorCode(err) != models.CodeNotFound {
		return err
	}
	return a.store.CreateTenant(ctx, a.newTenant(models.DefaultTenant))
}

// bootstrap makes what a first start needs: the default tenant, a key and an operator. It answers the secrets that it
// made itself; those that were given are only ensured.
func (a *admin) bootstrap(ctx context.Context, key, email, password string) ([]secret, error) {
	if err := a.ensureDefaultTenant(ctx); err != nil {
		return nil, err
	}
	tenant, err := a.store.TenantByName(ctx, models.DefaultTenant)
	if err != nil {
		return nil, err
	}
	made, err := a.bootstrapKey(ctx, tenant, key)
	if err != nil {
		return nil, fmt.Errorf("first key: %w", err)
	}
	person, err := a.bootstrapOperator(ctx, email, password)
	if err != nil {
		return nil, fmt.Errorf("first operator: %w", err)
	}
	return append(made, person...), nil
}

func (a *admin) bootstrapKey(ctx context.Context, tenant models.Tenant, key string) ([]secret, error) {
	if key != "" {
		row := auth.DescribeKey(key)
		_, _, err := a.store.KeyByHash(ctx, row.Hash)
		if models.ErrorCode(err) != models.CodeNotFound {
			return nil, err
		}
		row.ID, row.TenantID, row.Name, row.Scopes = a.newID(), tenant.ID, "bootstrap", auth.JoinScopes(models.AllScopes)
		row.CreatedAt, row.CreatedBy = a.now(), a.actor
		return nil, a.store.CreateKey(ctx, row)
	}
	keys, err := a.store.Keys(ctx, tenant.ID)
	if err != nil || len(keys) > 0 {
		return nil, err
	}
	minted, _, err := a.mintKey(ctx, tenant.ID, "first", auth.JoinScopes(models.AllScopes), nil)
	return []secret{{"API key", minted}}, err
}

func (a *admin) bootstrapOperator(ctx context.Context, email, password string) ([]secret, error) {
	people, err := a.store.Operators(ctx)
	if err != nil || len(people) > 0 {
		return nil, err
	}
	var made []secret
	if email == "" {
		email = "admin@localhost"
	}
	if password == "" {
		random := make([]byte, 15)
		_, _ = rand.Read(random) // never fails: it ends the program instead
		password = base64.RawURLEncoding.EncodeToString(random)
		made = []secret{{"operator", email}, {"password", password}}
	}
	_, err = a.createOperator(ctx, operatorArgs{Email: email, Password: password, Role: models.RoleAdmin})
	return made, err
}

// mintDemoKey makes a key of the default tenant that lives for one hour.
func (a *admin) mintDemoKey(ctx context.Context) (string, error) {
	tenant, err := a.store.TenantByName(ctx, models.DefaultTenant)
	if err != nil {
		return "", err
	}
	expires := a.now().Add(time.Hour)
	key, _, err := a.mintKey(ctx, tenant.ID, "demo", auth.JoinScopes(models.AllScopes), &expires)
	return key, err
}

// reveal shows the secrets of a first start: on the terminal when there is one, else in a file that only the owner
// reads. They never go to the log.
func reveal(secrets []secret, dataDir string, terminal *os.File) (where string, err error) {
	if len(secrets) == 0 {
		return "", nil
	}
	var text strings.Builder
	for _, s := range secrets {
		fmt.Fprintf(&text, "  %-9s %s\n", s.name, s.value)
	}
	if terminal != nil {
		_, err := fmt.Fprintf(terminal, "\nMade at this first start and shown this once:\n%s\n", &text)
		return "", err
	}
	where = filepath.Join(dataDir, secretsFile)
	return where, os.WriteFile(where, []byte(text.String()), 0o600)
}
