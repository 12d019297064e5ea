"""Peer A: FastAPI, pydantic, SQLAlchemy 2 and aio-pika, put together as their pages show it.

It publishes after the commit: an event is lost when the process ends in between, or when the
broker is away.
"""

import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import aio_pika
from fastapi import Depends, FastAPI, Header, HTTPException, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator
from sqlalchemy import JSON, BigInteger, DateTime, Sequence, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from bench.peers.callers import FIND, Callers

engine = create_async_engine(
    os.environ["DATABASE_URL"]
    .replace("postgresql://", "postgresql+asyncpg://")
    .replace("sslmode=", "ssl="),
    # As many as the service has; by default, those beyond 5 are opened and closed again and again.
    pool_size=10,
    max_overflow=0,
)
new_session = async_sessionmaker(engine, expire_on_commit=False)


class Base(DeclarativeBase):
    type_annotation_map = {  # noqa: RUF012 (SQLAlchemy's own way)
        int: BigInteger,
        datetime: DateTime(timezone=True),
        dict[str, Any]: JSON,
        list[str]: JSON,
    }


class Campaign(Base):
    __tablename__ = "campaigns"

    organization_id: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Sequence("campaign_ids"), primary_key=True)
    version: Mapped[int] = mapped_column(default=1)
    name: Mapped[str]
    name_key: Mapped[str]
    description: Mapped[str | None]
    campaign_type: Mapped[str]
    status: Mapped[str] = mapped_column(default="draft")
    assistant_id: Mapped[int]
    welcome_message_template: Mapped[str | None]
    agenda_template: Mapped[str | None]
    end_call_message_template: Mapped[str | None]
    sms_message_template: Mapped[str | None]
    fallback_values: Mapped[dict[str, Any]]
    variable_mappings: Mapped[dict[str, Any]] = mapped_column(default=dict)
    available_variables: Mapped[list[str]] = mapped_column(default=list)
    max_attempts: Mapped[int]
    retry_delay_minutes: Mapped[int]
    total_contacts: Mapped[int] = mapped_column(default=0)
    completed_contacts: Mapped[int] = mapped_column(default=0)
    failed_contacts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


Template = Annotated[str, StringConstraints(max_length=10_000)]


class CampaignIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
    description: Annotated[str, StringConstraints(max_length=2_000)] | None = None
    campaign_type: Literal["call", "sms", "mixed"]
    assistant_id: int = Field(strict=True, ge=1, lt=2**63)
    welcome_message_template: Template | None = None
    agenda_template: Template | None = None
    end_call_message_template: Template | None = None
    sms_message_template: Template | None = None
    fallback_values: dict[
        Annotated[str, StringConstraints(pattern=r"^[^\W\d]\w{0,63}$")],
        Annotated[str, StringConstraints(max_length=1_000)] | bool | int | float,
    ] = Field(default_factory=dict, max_length=100)
    max_attempts: int = Field(default=3, strict=True, ge=1, le=100)
    retry_delay_minutes: int = Field(default=30, strict=True, ge=0, le=43_200)

    @field_validator("*")
    @classmethod
    def storable(cls, value: Any) -> Any:
        if isinstance(value, str) and "\0" in value:
            raise ValueError("must not contain NUL")
        return value


class CampaignSettings(BaseModel):
    max_attempts: int
    retry_delay_minutes: int
    welcome_template: str | None
    agenda_template: str | None


class CampaignOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: int
    name: str
    description: str | None
    campaign_type: str
    status: str
    assistant_id: int
    welcome_message_template: str | None
    agenda_template: str | None
    end_call_message_template: str | None
    sms_message_template: str | None
    fallback_values: dict[str, Any]
    variable_mappings: dict[str, Any]
    available_variables: list[str]
    max_attempts: int
    retry_delay_minutes: int
    total_contacts: int
    completed_contacts: int
    failed_contacts: int
    created_at: datetime
    updated_at: datetime
    assistant_name: str | None = None
    last_import_file_name: str | None = None
    last_import_date: datetime | None = None
    last_import_row_count: int | None = None
    organization_id: int
    version: int
    settings: CampaignSettings | None = None


class Variables(BaseModel):
    required: list[str] = []
    optional: list[str] = []


class EventData(BaseModel):
    campaign: CampaignOut
    template_variables: Variables = Variables()


class CampaignCreated(BaseModel):
    specversion: str = "1.0"
    id: str
    type: str = "campaign.created"
    source: str
    subject: str
    time: datetime
    sequence: str = "0000000001"
    partitionkey: str
    datacontenttype: str = "application/json"
    dataschema: str = "urn:campaign-service:event:campaign.created:1"
    requestid: str
    data: EventData


async def find_key(sha256: bytes) -> int | None:
    async with new_session() as session:
        organization: int | None = await session.scalar(text(FIND.format(":key")), {"key": sha256})
        return organization


callers = Callers(find_key)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    connection = await aio_pika.connect_robust(os.environ["AMQP_URL"])
    async with connection:
        channel = await connection.channel()
        app.state.exchange = await channel.get_exchange("campaign.events")
        yield
    await engine.dispose()


app = FastAPI(lifespan=lifespan)


async def get_session() -> AsyncIterator[AsyncSession]:
    async with new_session() as session:
        yield session


async def get_organization(authorization: Annotated[str, Header()]) -> int:
    organization = await callers.organization(authorization)
    if organization is None:
        raise HTTPException(401)
    return organization


@app.post("/api/v1/campaigns", status_code=201)
async def create_campaign(
    draft: CampaignIn,
    request: Request,
    response: Response,
    organization: Annotated[int, Depends(get_organization)],
    session: Annotated[AsyncSession, Depends(get_session)],
) -> CampaignOut:
    now = datetime.now(UTC)
    campaign = Campaign(
        **draft.model_dump(),
        organization_id=organization,
        name_key=draft.name.casefold(),
        created_at=now,
        updated_at=now,
    )
    session.add(campaign)
    await session.commit()
    created = CampaignOut.model_validate(campaign)
    created.settings = CampaignSettings(
        max_attempts=created.max_attempts,
        retry_delay_minutes=created.retry_delay_minutes,
        welcome_template=created.welcome_message_template,
        agenda_template=created.agenda_template,
    )
    await publish(request.app.state.exchange, created)
    response.headers["Location"] = f"/api/v1/campaigns/{created.id}"
    response.headers["ETag"] = f'"{created.version}"'
    return created


async def publish(exchange: aio_pika.abc.AbstractExchange, campaign: CampaignOut) -> None:
    request_id = str(uuid.uuid4())
    event = CampaignCreated(
        id=str(uuid.uuid4()),
        source=f"/api/v1/campaigns/{campaign.id}",
        subject=str(campaign.id),
        time=campaign.updated_at,
        partitionkey=str(campaign.id),
        requestid=request_id,
        data=EventData(campaign=campaign),
    )
    await exchange.publish(
        aio_pika.Message(
            event.model_dump_json().encode(),
            content_type="application/cloudevents+json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
            message_id=event.id,
            type=event.type,
            timestamp=event.time,
            headers={"request-id": request_id},
        ),
        routing_key=event.type,
    )


@app.get("/readyz")
async def readyz() -> dict[str, str]:
    return {"status": "ready"}
