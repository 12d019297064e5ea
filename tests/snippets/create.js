const response = await fetch("https://api.burki.dev/api/v1/campaigns", {
  method: "POST",
  headers: {
    "Authorization": "Bearer YOUR_API_KEY",
    "Content-Type": "application/json"
  },
  body: JSON.stringify({
    name: "February Appointment Reminders",
    campaign_type: "call",
    assistant_id: 123,
    welcome_message_template: "Hi {{name|title_case}}, this is {{assistant_name}} calling from {{company}}."
  })
});

const campaign = await response.json();
console.log(`Created campaign: ${campaign.id}`);
