curl -X POST "https://api.burki.dev/api/v1/campaigns" \
  -H "Authorization: Bearer YOUR_API_KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "name": "February Appointment Reminders",
    "campaign_type": "call",
    "assistant_id": 123,
    "welcome_message_template": "Hi {{name|title_case}}, this is {{assistant_name}} calling from {{company}}."
  }'
