// Peer C: what a team that cares for speed writes in Go: net/http, a pgx pool, amqp091.
//
// It publishes after the insert and answers once the broker has confirmed; an event is lost when
// it ends in between. Channels are several, as the broker works on each for itself.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/gofrs/uuid"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	exchange     = "campaign.events"
	routingKey   = "campaign.created"
	connections  = 10
	channels     = 8
	keySeconds   = 5
	largestBody  = 1 << 20
	longestDelay = 30 * 24 * 60
)

const findKey = `SELECT organization_id, id FROM api_keys
WHERE sha256 = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())`

const insert = `INSERT INTO campaigns (
	organization_id, id, version, name, name_key, description, campaign_type, status, assistant_id,
	welcome_message_template, agenda_template, end_call_message_template, sms_message_template,
	fallback_values, max_attempts, retry_delay_minutes, created_at, updated_at
) VALUES (
	$1, nextval('campaign_ids'), 1, $2, $3, $4, $5, 'draft', $6, $7, $8, $9, $10, $11, $12, $13, $14, $14
) RETURNING id`

type draft struct {
	Name           *string                    `json:"name"`
	Description    *string                    `json:"description"`
	CampaignType   *string                    `json:"campaign_type"`
	AssistantID    *int64                     `json:"assistant_id"`
	Welcome        *string                    `json:"welcome_message_template"`
	Agenda         *string                    `json:"agenda_template"`
	EndCall        *string                    `json:"end_call_message_template"`
	SMS            *string                    `json:"sms_message_template"`
	FallbackValues map[string]json.RawMessage `json:"fallback_values"`
	MaxAttempts    *int                       `json:"max_attempts"`
	RetryDelay     *int                       `json:"retry_delay_minutes"`
}

type settings struct {
	MaxAttempts int     `json:"max_attempts"`
	RetryDelay  int     `json:"retry_delay_minutes"`
	Welcome     *string `json:"welcome_template"`
	Agenda      *string `json:"agenda_template"`
}

type campaign struct {
	ID                 int64             `json:"id"`
	Name               string            `json:"name"`
	Description        *string           `json:"description"`
	CampaignType       string            `json:"campaign_type"`
	Status             string            `json:"status"`
	AssistantID        int64             `json:"assistant_id"`
	Welcome            *string           `json:"welcome_message_template"`
	Agenda             *string           `json:"agenda_template"`
	EndCall            *string           `json:"end_call_message_template"`
	SMS                *string           `json:"sms_message_template"`
	FallbackValues     json.RawMessage   `json:"fallback_values"`
	VariableMappings   map[string]string `json:"variable_mappings"`
	AvailableVariables []string          `json:"available_variables"`
	MaxAttempts        int               `json:"max_attempts"`
	RetryDelay         int               `json:"retry_delay_minutes"`
	TotalContacts      int               `json:"total_contacts"`
	CompletedContacts  int               `json:"completed_contacts"`
	FailedContacts     int               `json:"failed_contacts"`
	CreatedAt          time.Time         `json:"created_at"`
	UpdatedAt          time.Time         `json:"updated_at"`
	AssistantName      *string           `json:"assistant_name"`
	LastImportFileName *string           `json:"last_import_file_name"`
	LastImportDate     *string           `json:"last_import_date"`
	LastImportRowCount *int              `json:"last_import_row_count"`
	OrganizationID     int64             `json:"organization_id"`
	Version            int               `json:"version"`
	Settings           settings          `json:"settings"`
}

type variables struct {
	Required []string `json:"required"`
	Optional []string `json:"optional"`
}

type data struct {
	Campaign  *campaign `json:"campaign"`
	Variables variables `json:"template_variables"`
}

type event struct {
	SpecVersion     string    `json:"specversion"`
	ID              string    `json:"id"`
	Type            string    `json:"type"`
	Source          string    `json:"source"`
	Subject         string    `json:"subject"`
	Time            time.Time `json:"time"`
	Sequence        string    `json:"sequence"`
	PartitionKey    string    `json:"partitionkey"`
	DataContentType string    `json:"datacontenttype"`
	DataSchema      string    `json:"dataschema"`
	RequestID       string    `json:"requestid"`
	Data            data      `json:"data"`
}

type known struct {
	organization int64
	until        time.Time
}

type service struct {
	pool     *pgxpool.Pool
	channels []*amqp.Channel
	next     uint64
	keys     sync.Map
}

func main() {
	ctx := context.Background()
	config, err := pgxpool.ParseConfig(os.Getenv("DATABASE_URL"))
	if err != nil {
		log.Fatal(err)
	}
	config.MaxConns = connections
	pool, err := pgxpool.ConnectConfig(ctx, config)
	if err != nil {
		log.Fatal(err)
	}
	connection, err := amqp.Dial(os.Getenv("AMQP_URL"))
	if err != nil {
		log.Fatal(err)
	}
	s := &service{pool: pool}
	for n := 0; n < channels; n++ {
		channel, err := connection.Channel()
		if err != nil {
			log.Fatal(err)
		}
		if err := channel.Confirm(false); err != nil {
			log.Fatal(err)
		}
		s.channels = append(s.channels, channel)
	}
	http.HandleFunc("/api/v1/campaigns", s.create)
	http.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {})
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("HTTP_PORT"), nil))
}

func (s *service) create(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		refuse(w, http.StatusMethodNotAllowed, "only POST")
		return
	}
	organization, err := s.organization(r)
	if err != nil {
		refuse(w, http.StatusUnauthorized, err.Error())
		return
	}
	var d draft
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, largestBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&d); err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if problems := d.check(); len(problems) > 0 {
		refuse(w, http.StatusUnprocessableEntity, strings.Join(problems, "; "))
		return
	}
	c, err := s.store(r.Context(), organization, &d)
	if err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	if err := s.publish(r.Context(), c); err != nil {
		refuse(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	body, err := json.Marshal(c)
	if err != nil {
		refuse(w, http.StatusInternalServerError, err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Location", fmt.Sprintf("/api/v1/campaigns/%d", c.ID))
	w.Header().Set("ETag", `"1"`)
	w.WriteHeader(http.StatusCreated)
	w.Write(body)
}

func (s *service) organization(r *http.Request) (int64, error) {
	key := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	hashed := sha256.Sum256([]byte(key))
	if found, ok := s.keys.Load(hashed); ok && time.Now().Before(found.(known).until) {
		return found.(known).organization, nil
	}
	var organization, id int64
	err := s.pool.QueryRow(r.Context(), findKey, hashed[:]).Scan(&organization, &id)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, errors.New("unknown key")
	}
	if err == nil {
		s.keys.Store(hashed, known{organization, time.Now().Add(keySeconds * time.Second)})
	}
	return organization, err
}

func (d *draft) check() []string {
	var problems []string
	wrong := func(isWrong bool, problem string) {
		if isWrong {
			problems = append(problems, problem)
		}
	}
	if d.Name != nil {
		*d.Name = strings.TrimSpace(*d.Name)
	}
	wrong(d.Name == nil || *d.Name == "" || utf8.RuneCountInString(*d.Name) > 200, "name: 1 to 200 characters")
	wrong(d.CampaignType == nil || (*d.CampaignType != "call" && *d.CampaignType != "sms" && *d.CampaignType != "mixed"),
		"campaign_type: call, sms or mixed")
	wrong(d.AssistantID == nil || *d.AssistantID < 1, "assistant_id: from 1")
	wrong(isLong(d.Description, 2000), "description: at most 2000 characters")
	for name, template := range map[string]*string{
		"welcome_message_template": d.Welcome, "agenda_template": d.Agenda,
		"end_call_message_template": d.EndCall, "sms_message_template": d.SMS,
	} {
		wrong(isLong(template, 10000), name+": at most 10000 characters")
	}
	wrong(len(d.FallbackValues) > 100, "fallback_values: at most 100")
	for name, value := range d.FallbackValues {
		wrong(name == "" || len(name) > 64 || value[0] == '{' || value[0] == '[' || len(value) > 1002,
			"fallback_values: "+name)
	}
	wrong(d.MaxAttempts != nil && (*d.MaxAttempts < 1 || *d.MaxAttempts > 100), "max_attempts: 1 to 100")
	wrong(d.RetryDelay != nil && (*d.RetryDelay < 0 || *d.RetryDelay > longestDelay), "retry_delay_minutes: 0 to 43200")
	return problems
}

func isLong(text *string, most int) bool {
	return text != nil && (utf8.RuneCountInString(*text) > most || strings.ContainsRune(*text, 0))
}

func (s *service) store(ctx context.Context, organization int64, d *draft) (*campaign, error) {
	now := time.Now().UTC().Truncate(time.Microsecond)
	c := &campaign{
		Name: *d.Name, Description: d.Description, CampaignType: *d.CampaignType, Status: "draft",
		AssistantID: *d.AssistantID, Welcome: d.Welcome, Agenda: d.Agenda, EndCall: d.EndCall, SMS: d.SMS,
		FallbackValues: json.RawMessage("{}"), VariableMappings: map[string]string{}, AvailableVariables: []string{},
		MaxAttempts: 3, RetryDelay: 30, CreatedAt: now, UpdatedAt: now, OrganizationID: organization, Version: 1,
	}
	if d.FallbackValues != nil {
		values, err := json.Marshal(d.FallbackValues)
		if err != nil {
			return nil, err
		}
		c.FallbackValues = values
	}
	if d.MaxAttempts != nil {
		c.MaxAttempts = *d.MaxAttempts
	}
	if d.RetryDelay != nil {
		c.RetryDelay = *d.RetryDelay
	}
	c.Settings = settings{c.MaxAttempts, c.RetryDelay, c.Welcome, c.Agenda}
	err := s.pool.QueryRow(ctx, insert, organization, c.Name, strings.ToLower(c.Name), c.Description,
		c.CampaignType, c.AssistantID, c.Welcome, c.Agenda, c.EndCall, c.SMS, string(c.FallbackValues),
		c.MaxAttempts, c.RetryDelay, now).Scan(&c.ID)
	return c, err
}

func (s *service) publish(ctx context.Context, c *campaign) error {
	id, err := uuid.NewV4()
	if err != nil {
		return err
	}
	request, err := uuid.NewV4()
	if err != nil {
		return err
	}
	number := strconv.FormatInt(c.ID, 10)
	var body bytes.Buffer
	err = json.NewEncoder(&body).Encode(event{
		SpecVersion: "1.0", ID: id.String(), Type: routingKey, Source: "/api/v1/campaigns/" + number, Subject: number,
		Time: c.UpdatedAt, Sequence: "0000000001", PartitionKey: number, DataContentType: "application/json",
		DataSchema: "urn:campaign-service:event:campaign.created:1", RequestID: request.String(),
		Data: data{c, variables{[]string{}, []string{}}},
	})
	if err != nil {
		return err
	}
	channel := s.channels[atomic.AddUint64(&s.next, 1)%channels]
	confirmation, err := channel.PublishWithDeferredConfirmWithContext(ctx, exchange, routingKey, true, false,
		amqp.Publishing{
			ContentType: "application/cloudevents+json", DeliveryMode: amqp.Persistent, MessageId: id.String(),
			Type: routingKey, Timestamp: c.UpdatedAt, Body: body.Bytes(),
			Headers: amqp.Table{"request-id": request.String()},
		})
	if err != nil {
		return err
	}
	if !confirmation.Wait() {
		return errors.New("the broker refused the event")
	}
	return nil
}

func refuse(w http.ResponseWriter, status int, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]interface{}{"status": status, "detail": detail})
}
