package models

import "time"

// DefaultTenant is the name of the tenant that owns the bootstrap key and the dashboard's own runs.
const DefaultTenant = "default"

// Tenant is a customer: it owns keys, jobs, media and private workflows, and sees nothing of another tenant.
type Tenant struct {
	ID string `gorm:"primaryKey"`
	// Name is unique: lower-case letters, digits and hyphens, 1 to 63 of them.
	Name      string
	CreatedAt time.Time
	// SuspendedAt stops intake and dispatch and keeps the data.
	SuspendedAt *time.Time
	// Weight is its share of the fleet against other tenants; 1 by default.
	Weight int
	// MaxRunning and MaxQueued cap its jobs; 0 for the service's own limit.
	MaxRunning int
	MaxQueued  int
	// RateSubmit, RateStatus and RateManage are requests per minute of each of its keys; 0 for the default, -1 for none.
	RateSubmit int
	RateStatus int
	RateManage int
	// WebhookSecret signs its webhooks ("whsec_" and base64). WebhookSecretPrevious is valid until WebhookSecretUntil.
	WebhookSecret         string
	WebhookSecretPrevious string
	WebhookSecretUntil    *time.Time
	// WebhooksDisabledAt is set when an endpoint answered 410 Gone or an operator stopped them.
	WebhooksDisabledAt *time.Time
	// LibraryOnly refuses raw graphs.
	LibraryOnly bool
	// AllowClasses and DenyClasses are node classes, newline separated; "" for no rule.
	AllowClasses string
	DenyClasses  string
}

// Scope is what a key may do.
type Scope string

const (
	ScopeSubmit Scope = "jobs:write"     // submit and cancel
	ScopeRead   Scope = "jobs:read"      // read jobs, outputs, streams
	ScopeLib    Scope = "workflows:read" // read the library
	ScopeUsage  Scope = "usage:read"     // read usage
)

// AllScopes is what a new key has unless told otherwise.
var AllScopes = []Scope{ScopeSubmit, ScopeRead, ScopeLib, ScopeUsage}

// APIKey is a tenant's credential. The key itself is shown once; only its SHA-256 is kept.
type APIKey struct {
	ID       string `gorm:"primaryKey"`
	TenantID string
	Name     string
	// Prefix is the first 12 characters, for lists.
	Prefix string
	// Hash is the hex SHA-256 of the whole key; unique.
	Hash string
	// Scopes are space separated.
	Scopes     string
	CreatedAt  time.Time
	CreatedBy  string
	ExpiresAt  *time.Time
	RevokedAt  *time.Time
	LastUsedAt *time.Time
	LastUsedIP string
}

// KeyUse is when and from where a key was last used.
type KeyUse struct {
	At time.Time
	IP string
}

// Role is what an operator may do.
type Role string

const (
	RoleAdmin    Role = "admin"    // everything, operators and settings too
	RoleOperator Role = "operator" // jobs, workers, library
	RoleViewer   Role = "viewer"   // reads only
)

// Allows reports whether r includes what need may do.
func (r Role) Allows(need Role) bool {
	rank := map[Role]int{RoleViewer: 1, RoleOperator: 2, RoleAdmin: 3}
	return rank[r] >= rank[need] && rank[r] > 0
}

// Operator is a person who signs in to the dashboard.
type Operator struct {
	ID string `gorm:"primaryKey"`
	// Email is lower-case and unique.
	Email        string
	PasswordHash string // argon2id, PHC format
	Role         Role
	CreatedAt    time.Time
	LastSignInAt *time.Time
	DisabledAt   *time.Time
}

// Session is an operator's sign-in. Only the SHA-256 of its cookie is kept.
type Session struct {
	Hash       string `gorm:"primaryKey"`
	OperatorID string
	CSRF       string
	CreatedAt  time.Time
	SeenAt     time.Time
	ExpiresAt  time.Time
	IP         string
	UserAgent  string
}

// AuditEntry is one change that an operator, a command or the service itself made.
type AuditEntry struct {
	Seq int64 `gorm:"primaryKey;autoIncrement"`
	At  time.Time
	// Actor is an operator's e-mail, "cli" or "system".
	Actor  string
	Action string // noun.verb, e.g. "worker.drain"
	Target string
	Detail string
	IP     string
}
