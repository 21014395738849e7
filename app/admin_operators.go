package main

import (
	"context"
	"strings"

	"comfyfleet/app/auth"
	"comfyfleet/models"
)

type operatorArgs struct {
	Email    string      `json:"email"`
	Password string      `json:"password,omitempty"`
	Role     models.Role `json:"role,omitempty"`
}

func (o operatorArgs) check() error {
	if !strings.Contains(o.Email, "@") || len(o.Email) > 254 {
		return models.FieldErrorf(models.CodeInvalid, "", "email", "must be an e-mail address")
	}
	if o.Role != "" && !o.Role.Allows(models.RoleViewer) {
		return models.FieldErrorf(models.CodeInvalid, "", "role", "must be admin, operator or viewer")
	}
	return nil
}

func (a *admin) createOperator(ctx context.Context, o operatorArgs) (any, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Password == "" {
		return nil, models.FieldErrorf(models.CodeInvalid, "", "password", "is required")
	}
	hash, err := auth.HashPassword(o.Password)
	if err != nil {
		return nil, err
	}
	person := models.Operator{ID: a.newID(), Email: strings.ToLower(o.Email), PasswordHash: hash, Role: o.Role, CreatedAt: a.now()}
	if person.Role == "" {
		person.Role = models.RoleOperator
	}
	if err := a.store.CreateOperator(ctx, person); err != nil {
		return nil, err
	}
	person.PasswordHash = ""
	return person, a.audit(ctx, "operator.create", person.Email, string(person.Role))
}

func (a *admin) listOperators(ctx context.Context, _ operatorArgs) (any, error) {
	people, err := a.store.Operators(ctx)
	for i := range people {
		people[i].PasswordHash = ""
	}
	return people, err
}

func (a *admin) setPassword(ctx context.Context, o operatorArgs) (any, error) {
	hash := ""
	return a.changeOperator(ctx, o, "operator.password", func(p *models.Operator) (err error) {
		if hash, err = auth.HashPassword(o.Password); err == nil {
			p.PasswordHash = hash
		}
		return err
	})
}

func (a *admin) setRole(ctx context.Context, o operatorArgs) (any, error) {
	return a.changeOperator(ctx, o, "operator.role", func(p *models.Operator) error {
		p.Role = o.Role
		return nil
	})
}

// changeOperator changes one person and ends their sessions.
func (a *admin) changeOperator(ctx context.Context, o operatorArgs, verb string, change func(*models.Operator) error) (any, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	person, err := a.store.OperatorByEmail(ctx, strings.ToLower(o.Email))
	if err != nil {
		return nil, err
	}
	if err := change(&person); err != nil {
		return nil, err
	}
	if err := a.store.UpdateOperator(ctx, person); err != nil {
		return nil, err
	}
	if err := a.store.DeleteSessions(ctx, person.ID); err != nil {
		return nil, err
	}
	person.PasswordHash = ""
	return person, a.audit(ctx, verb, person.Email, string(person.Role))
}
