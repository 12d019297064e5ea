import requests

response = requests.post(
    "https://api.burki.dev/api/v1/campaigns",
    headers={"Authorization": "Bearer YOUR_API_KEY", "Content-Type": "application/json"},
    json={
        "name": "February Appointment Reminders",
        "campaign_type": "call",
        "assistant_id": 123,
        "welcome_message_template": "Hi {{name|title_case}}, this is {{assistant_name}} calling from {{company}}.",
    },
)

campaign = response.json()
print(f"Created campaign: {campaign['id']}")
