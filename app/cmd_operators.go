package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"

	"golang.org/x/term"

	"comfyfleet/models"
)

type operatorsCmd struct {
	Create   operatorCreateCmd   `cmd:"" help:"Create an operator."`
	List     operatorListCmd     `cmd:"" help:"List the operators."`
	Password operatorPasswordCmd `cmd:"" help:"Set an operator's password; their sessions end."`
	Role     operatorRoleCmd     `cmd:"" help:"Set an operator's role; their sessions end."`
}

type operatorCreateCmd struct {
	Email string `arg:""`
	Role  string `enum:"admin,operator,viewer" default:"operator" help:"admin, operator or viewer."`
}

func (c *operatorCreateCmd) Run(s *session) error {
	password, err := s.readPassword()
	if err != nil {
		return err
	}
	return s.operator("operators.create", operatorArgs{Email: c.Email, Role: models.Role(c.Role), Password: password})
}

type operatorListCmd struct{}

func (c *operatorListCmd) Run(s *session) error {
	var people []models.Operator
	if err := s.act("operators.list", operatorArgs{}, &people); err != nil {
		return err
	}
	return s.show(people, "EMAIL ROLE CREATED SIGNED-IN", func(add func(...any)) {
		for _, p := range people {
			add(p.Email, p.Role, p.CreatedAt, p.LastSignInAt)
		}
	})
}

type operatorPasswordCmd struct {
	Email string `arg:""`
}

func (c *operatorPasswordCmd) Run(s *session) error {
	password, err := s.readPassword()
	if err != nil {
		return err
	}
	return s.operator("operators.password", operatorArgs{Email: c.Email, Password: password})
}

type operatorRoleCmd struct {
	Email string `arg:""`
	Role  string `arg:"" enum:"admin,operator,viewer"`
}

func (c *operatorRoleCmd) Run(s *session) error {
	return s.operator("operators.role", operatorArgs{Email: c.Email, Role: models.Role(c.Role)})
}

func (s *session) operator(verb string, args operatorArgs) error {
	var p models.Operator
	if err := s.act(verb, args, &p); err != nil {
		return err
	}
	return s.show(p, "", func(add func(...any)) {
		add("email", p.Email)
		add("role", p.Role)
	})
}

// readPassword asks on a terminal without echo, and reads one line otherwise. A password is no argument: those are seen
// by every process of the machine.
func (s *session) readPassword() (string, error) {
	if term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprint(s.stderr, "Password (at least 8 characters): ")
		b, err := term.ReadPassword(int(os.Stdin.Fd()))
		fmt.Fprintln(s.stderr)
		return string(b), err
	}
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil && line == "" {
		return "", fmt.Errorf("read the password from standard input: %w", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
