package main

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"comfyfleet/models"
)

// applyTenantSettings changes a tenant by NAME=VALUE pairs of the command line.
func applyTenantSettings(t *models.Tenant, set map[string]string) error {
	numbers := map[string]*int{
		"weight": &t.Weight, "max-running": &t.MaxRunning, "max-queued": &t.MaxQueued,
		"rate-submit": &t.RateSubmit, "rate-status": &t.RateStatus, "rate-manage": &t.RateManage,
	}
	for name, value := range set {
		if n, ok := numbers[name]; ok {
			v, err := strconv.Atoi(value)
			if value == "off" && strings.HasPrefix(name, "rate-") {
				v, err = -1, nil
			}
			if err != nil || v < -1 || v < 0 && !strings.HasPrefix(name, "rate-") || name == "weight" && v < 1 {
				return models.FieldErrorf(models.CodeInvalid, "", name, "%q is no number that it can have", value)
			}
			*n = v
			continue
		}
		switch name {
		case "library-only":
			v, err := strconv.ParseBool(value)
			if err != nil {
				return models.FieldErrorf(models.CodeInvalid, "", name, "must be true or false")
			}
			t.LibraryOnly = v
		case "allow-classes":
			t.AllowClasses = strings.ReplaceAll(value, ",", "\n")
		case "deny-classes":
			t.DenyClasses = strings.ReplaceAll(value, ",", "\n")
		case "webhooks":
			if value != "on" {
				return models.FieldErrorf(models.CodeInvalid, "", name, "can only be turned on; an endpoint that answers 410 turns it off")
			}
			t.WebhooksDisabledAt = nil
		default:
			known := append(slices.Sorted(maps.Keys(numbers)), "library-only", "allow-classes", "deny-classes", "webhooks")
			return models.FieldErrorf(models.CodeInvalid, "", name, "no such setting; there are %s", strings.Join(known, ", "))
		}
	}
	return nil
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
