package store

import (
	"context"
	"database/sql"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"

	"comfyfleet/models"
)

// insertBatch bounds the rows of one INSERT, and so its arguments: SQLite takes 32766.
const insertBatch = 500

// The tables that every job goes through. GORM makes a statement anew for every call, which costs as much as the database
// does; these are made once.
var (
	jobsTable     = tableOf[models.Job]()
	payloadsTable = tableOf[payloadRow]()
	attemptsTable = tableOf[models.Attempt]("job_id", "tenant_id", "number", "worker", "placed_because", "created_at")
	eventsTable   = tableOf[eventRow]()
	assetsTable   = tableOf[models.Asset]()
	outputsTable  = tableOf[models.Output]()
)

// table reads and writes whole rows of a model.
type table[T any] struct {
	fields []*schema.Field
	key    *schema.Field   // the primary key; nil when it has several columns
	given  []*schema.Field // all but a key that the database numbers
	saved  []*schema.Field // what may change

	insertInto, values, selectFrom, update string
}

// tableOf makes the statements for a model. fixed are columns that never change: to write one again would write its indexes
// again.
func tableOf[T any](fixed ...string) *table[T] {
	model, err := schema.Parse(new(T), &sync.Map{}, naming())
	if err != nil {
		panic(fmt.Sprintf("model %T: %v", *new(T), err))
	}
	t := &table[T]{key: model.PrioritizedPrimaryField}
	for _, f := range model.Fields {
		if f.DBName == "" {
			continue
		}
		t.fields = append(t.fields, f)
		if !f.AutoIncrement {
			t.given = append(t.given, f)
		}
		if !f.PrimaryKey && !slices.Contains(fixed, f.DBName) {
			t.saved = append(t.saved, f)
		}
	}
	names := func(fields []*schema.Field, after string) string {
		quoted := make([]string, len(fields))
		for i, f := range fields {
			quoted[i] = `"` + f.DBName + `"` + after
		}
		return strings.Join(quoted, ", ")
	}
	t.insertInto = fmt.Sprintf("INSERT INTO %q (%s) VALUES ", model.Table, names(t.given, ""))
	t.values = "(" + strings.Repeat("?, ", len(t.given)-1) + "?)"
	t.selectFrom = fmt.Sprintf("SELECT %s FROM %q WHERE ", names(t.fields, ""), model.Table)
	if t.key != nil {
		t.update = fmt.Sprintf("UPDATE %q SET %s WHERE %q = ?", model.Table, names(t.saved, " = ?"), t.key.DBName)
	}
	return t
}

// insert stores new rows of a table whose keys are given.
func (t *table[T]) insert(tx *gorm.DB, rows ...T) error {
	for some := range slices.Chunk(rows, insertBatch) {
		args := make([]any, 0, len(some)*len(t.given))
		for i := range some {
			args = valuesOf(args, t.given, &some[i])
		}
		if _, err := execSQL(tx, t.insertInto+t.values+strings.Repeat(", "+t.values, len(some)-1), args...); err != nil {
			return err
		}
	}
	return nil
}

// insertNumbered stores a new row under the next number, which it sets as the row's key.
func (t *table[T]) insertNumbered(tx *gorm.DB, row *T) error {
	number := t.key.ReflectValueOf(context.Background(), reflect.ValueOf(row).Elem()).Addr().Interface()
	return inWords(tx, queryRow(tx, t.insertInto+t.values+" RETURNING "+t.key.DBName, valuesOf(nil, t.given, row)...).Scan(number))
}

// save stores a changed row.
func (t *table[T]) save(tx *gorm.DB, row *T) error {
	args := valuesOf(make([]any, 0, len(t.saved)+1), t.saved, row)
	_, err := execSQL(tx, t.update, valuesOf(args, []*schema.Field{t.key}, row)...)
	return err
}

// take reads the row for which a condition holds; sql.ErrNoRows for none.
func (t *table[T]) take(tx *gorm.DB, condition string, args ...any) (row T, err error) {
	v := reflect.ValueOf(&row).Elem()
	into := make([]any, len(t.fields))
	for i, f := range t.fields {
		into[i] = f.ReflectValueOf(context.Background(), v).Addr().Interface()
	}
	err = queryRow(tx, t.selectFrom+condition, args...).Scan(into...)
	return row, err
}

// execSQL and queryRow hand a statement to tx's connection as it is: GORM would write it once more, argument by argument.
func execSQL(tx *gorm.DB, statement string, args ...any) (changed int64, err error) {
	res, err := tx.Statement.ConnPool.ExecContext(tx.Statement.Context, statement, args...)
	if err != nil {
		return 0, inWords(tx, err)
	}
	return res.RowsAffected()
}

func queryRow(tx *gorm.DB, statement string, args ...any) *sql.Row {
	return tx.Statement.ConnPool.QueryRowContext(tx.Statement.Context, statement, args...)
}

// inWords is an error of the driver in GORM's words, such as gorm.ErrDuplicatedKey; nil for none.
func inWords(tx *gorm.DB, err error) error {
	if err == nil {
		return nil
	}
	return tx.Session(&gorm.Session{}).AddError(err)
}

// valuesOf appends a row's values to args.
func valuesOf[T any](args []any, fields []*schema.Field, row *T) []any {
	ctx := context.Background() // asked for by GORM's serializers; these models have none
	v := reflect.ValueOf(row).Elem()
	for _, f := range fields {
		value, _ := f.ValueOf(ctx, v)
		args = append(args, value)
	}
	return args
}
